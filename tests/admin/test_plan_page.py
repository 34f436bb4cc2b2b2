"""The page of one plan."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from dynflow_app import clock
from dynflow_app.models import Action, ExecutionPlan, OutputChunk, Step
from tests.factories import (
    AttemptFactory,
    ChunkFactory,
    HistoryFactory,
    PlanFactory,
    StepFactory,
    add_steps,
)

pytestmark = pytest.mark.django_db
EVIL = "</script><img src=x onerror=alert(1)>"


def page_of(client: Client, plan: ExecutionPlan, **parameters: str) -> str:
    """The page."""
    response = client.get(reverse("admin:dynflow_app_executionplan_change", args=[plan.pk]), parameters)
    assert response.status_code == 200
    return response.text


def queries(client: Client, plan: ExecutionPlan) -> int:
    """How many the page takes."""
    with CaptureQueriesContext(connection) as captured:
        page_of(client, plan)
    return len(captured)


def with_everything(count: int) -> ExecutionPlan:
    """A paused plan with `count` steps of every kind, each with output."""
    plan = PlanFactory(state="paused")
    steps = add_steps(plan, count - 2 * (count // 4))
    steps += add_steps(plan, count // 4, "error", first=len(steps) + 1)
    steps += add_steps(plan, count // 4, "running", first=len(steps) + 1)
    OutputChunk.objects.bulk_create([ChunkFactory.build(action=step.action) for step in steps])
    HistoryFactory(plan=plan)
    assert plan.steps.count() == count
    return plan


def test_number_of_queries_does_not_depend_on_the_number_of_steps(admin_client: Client, viewer: Client) -> None:
    few, many = with_everything(20), with_everything(2000)
    assert queries(admin_client, few) <= 19  # the first time Django also looks up the model's content type

    assert queries(admin_client, few) == queries(admin_client, many) <= 18
    assert queries(viewer, few) == queries(viewer, many) <= 18


@pytest.mark.parametrize("count", [0, 1, 2000])
def test_renders_with_any_number_of_steps(viewer: Client, count: int) -> None:
    plan = PlanFactory(state="running")
    add_steps(plan, count)
    page = page_of(viewer, plan)

    assert page.count('<tbody id="step-') == min(count, 100)
    assert ("1–100 of 2000" in page) == (count == 2000)  # noqa: RUF001 - a dash
    assert ("No steps." in page) == (count == 0)


def test_pages_of_steps(viewer: Client) -> None:
    plan = PlanFactory(state="running")
    add_steps(plan, 250)

    assert 'id="step-101"' in page_of(viewer, plan, page="2")
    last = page_of(viewer, plan, page="3")
    assert last.count('<tbody id="step-') == 50
    assert "?page=2#steps" in last
    for odd in ("99", "-1", "x", "²", "9" * 5000):
        assert '<tbody id="step-' in page_of(viewer, plan, page=odd)


def test_header(viewer: Client) -> None:
    plan = PlanFactory(state="paused", label="Nightly report", triggered_by="ada", tags=["night"])
    add_steps(plan, 3)
    page = page_of(viewer, plan)

    for text in ("Nightly report", "Paused, needs you", "ada", "night", str(plan.pk), "3 / 3"):
        assert text in page


def test_time_left(viewer: Client) -> None:
    # given earlier runs of 100 s each, and a plan that is half done
    for _ in range(5):
        began = clock.now() - timedelta(hours=1)
        PlanFactory(state="stopped", started_at=began, ended_at=began + timedelta(seconds=100))
    plan = PlanFactory(state="running")
    add_steps(plan, 1, "success")
    add_steps(plan, 1, "running", first=2)
    page = page_of(viewer, plan)

    assert '<progress max="1" value="0.5"' in page
    assert "Time left, about</dt><dd>50 s" in page


def test_why_it_is_not_moving(viewer: Client) -> None:
    # given a step that failed with a nasty message, and a plan that simply goes on
    plan = PlanFactory(state="paused")
    StepFactory(plan=plan, state="error", error={"class": "E", "message": EVIL, "backtrace": ""})
    moving = PlanFactory(state="running")
    add_steps(moving, 1, "running")
    page = page_of(viewer, plan)

    # then only the first says why, safely, and what to do
    assert "Why is it not moving?" in page
    assert "control.resume" in page
    assert "<img src=x" not in page
    assert "Why is it not moving?" not in page_of(viewer, moving)


def test_errors(viewer: Client) -> None:
    plan = PlanFactory(state="paused")
    step = StepFactory(plan=plan, state="error", attempt=3)
    page = page_of(viewer, plan)

    assert f"Step {step.number} (run), project.bench.actions.NoOp, attempt 3" in page
    assert "project.errors.Unreachable" in page
    assert "Traceback (most recent call last)" in page


def test_errors_are_bounded(viewer: Client) -> None:
    plan = PlanFactory(state="paused")
    add_steps(plan, 25, "error")
    page = page_of(viewer, plan)

    assert page.count("<article") == 20
    assert "5 more steps failed" in page


def test_failed_planning(viewer: Client) -> None:
    error = {"class": "ValueError", "message": "no hosts", "backtrace": "Traceback"}
    page = page_of(viewer, PlanFactory(state="stopped", result="error", error=error))

    assert "Planning failed" in page
    assert "no hosts" in page


def test_payloads_are_masked(viewer: Client) -> None:
    step = StepFactory(state="success")
    Action.objects.update(
        input={"host": "h7", "Password": "hunter2", "deep": [{"api_key": {"v": "hunter3"}}]},
        output={"session_token": "hunter4", "found": "düne"},
    )
    page = page_of(viewer, step.plan)

    assert "hunter" not in page
    assert page.count("••••") == 3
    assert "h7" in page
    assert "düne" in page


def test_large_payloads_stay_in_the_database(viewer: Client) -> None:
    step = StepFactory(state="success")
    Action.objects.update(input={"text": "x" * 20_000}, output={"text": "y" * 10_000})
    page = page_of(viewer, step.plan)

    assert "Too large to show here" in page
    assert "x" * 100 not in page
    assert "y" * 10_000 in page


def test_workers_attempts_and_history(viewer: Client) -> None:
    plan = PlanFactory(state="running")
    step = StepFactory(plan=plan, state="running", attempt=2)
    AttemptFactory(step=step, worker="first.example.com:7")
    HistoryFactory(plan=plan, verb="skip", reason="not needed", step_number=5)
    page = page_of(viewer, plan)

    for text in ("first.example.com:7", step.worker, "1 ended attempt", "skip", "not needed"):
        assert text in page


def test_output_is_the_newest_in_order(viewer: Client) -> None:
    step = StepFactory(state="success")
    for text in ("old" + "a" * 40_000, "b" * 40_000, "the end"):
        ChunkFactory(action=step.action, text=text)
    page = page_of(viewer, step.plan)

    assert "old" + "a" * 100 not in page
    assert "a" * 20_000 + "b" * 40_000 + "the end" in page
    assert page.count("a" * 100) <= 656


def test_text_is_escaped(viewer: Client) -> None:
    error = {"class": EVIL, "message": EVIL, "backtrace": EVIL}
    plan = PlanFactory(label=EVIL, state="paused", error=error, triggered_by=EVIL, tags=[EVIL])
    step = StepFactory(plan=plan, state="error", attempt=2, error=error, queue=EVIL)
    Action.objects.update(input={EVIL: EVIL}, output={"text": EVIL}, name=f"evil.{EVIL}")
    AttemptFactory(step=step, number=1, error=error, worker=EVIL)
    ChunkFactory(action=step.action, text=EVIL)
    HistoryFactory(plan=plan, actor=EVIL, reason=EVIL)
    page = page_of(viewer, plan)

    assert "<img src=x" not in page
    assert page.count("&lt;img src=x") > 10


def test_a_page_holds_no_inline_style_or_script(viewer: Client) -> None:
    page = page_of(viewer, with_everything(8))

    assert "style=" not in page
    assert "<style" not in page
    assert "<script>" not in page


def test_an_unknown_plan_is_not_an_error(viewer: Client) -> None:
    url = reverse("admin:dynflow_app_executionplan_change", args=["nonsense"])

    assert viewer.get(url).status_code == 302
    assert not Step.objects.exists()
