"""The list of plans."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from dynflow_app import clock
from dynflow_app.models import ExecutionPlan
from tests.factories import PlanFactory, StepFactory, WorldFactory, add_steps

pytestmark = pytest.mark.django_db
LIST = "admin:dynflow_app_executionplan_changelist"


def shown(client: Client, **parameters: str) -> list[ExecutionPlan]:
    """The plans on the page."""
    response = client.get(reverse(LIST), parameters)
    assert response.status_code == 200
    return list(response.context["cl"].result_list)


def queries(client: Client) -> int:
    """How many the page takes."""
    with CaptureQueriesContext(
        connection,
    ) as captured:
        client.get(reverse(LIST))
    return len(captured)


def test_number_of_queries_does_not_depend_on_the_number_of_plans(admin_client: Client, viewer: Client) -> None:
    PlanFactory()
    few = queries(admin_client)
    for _ in range(60):
        add_steps(PlanFactory(state="running"), 3)

    assert queries(admin_client) == few <= 6
    assert queries(viewer) == few + 2  # what the user and his groups may


@pytest.mark.parametrize(
    ("state", "result", "word"),
    [
        ("planned", "pending", "Waiting"),
        ("running", "pending", "Running"),
        ("paused", "error", "Paused, needs you"),
        ("scheduled", "pending", "Scheduled"),
        ("stopped", "success", "Done"),
        ("stopped", "warning", "Done with warnings"),
        ("stopped", "error", "Failed"),
        ("stopped", "cancelled", "Cancelled"),
    ],
)
def test_badge(admin_client: Client, state: str, result: str, word: str) -> None:
    PlanFactory(state=state, result=result)

    assert f"</span> {word}</span>" in admin_client.get(reverse(LIST)).text


def test_a_running_plan_shows_failed_and_suspended_steps(admin_client: Client) -> None:
    add_steps(failing := PlanFactory(state="running"), 1, "error")
    StepFactory(plan=failing, state="running")
    add_steps(PlanFactory(state="running"), 2, "suspended")
    page = admin_client.get(reverse(LIST)).text

    assert "Running with errors" in page
    assert "</span> Waiting</span>" in page


def test_progress_counts_ended_steps_and_weighs_them(admin_client: Client) -> None:
    plan = PlanFactory(state="running")
    add_steps(plan, 2, "success")
    add_steps(plan, 1, "skipped", first=3)
    add_steps(plan, 3, "pending", first=4)
    plan.steps.filter(number=1).update(weight=7)
    page = admin_client.get(reverse(LIST)).text

    assert '<progress max="1" value="0.75"' in page
    assert "3 / 6" in page


def test_a_plan_is_called_by_label_docstring_or_class(admin_client: Client) -> None:
    PlanFactory(label="Nightly report")
    PlanFactory(action="project.bench.actions.Fan")
    PlanFactory(action="gone.actions.Forgotten")
    page = admin_client.get(reverse(LIST)).text

    assert "Nightly report" in page
    assert "Many steps side by side" in page
    assert ">Forgotten<" in page
    assert "gone.actions.Forgotten" in page


def test_newest_first_fifty_a_page(admin_client: Client) -> None:
    old = PlanFactory(created_at=clock.now() - timedelta(days=2))
    PlanFactory.create_batch(50)
    page = shown(admin_client)

    assert len(page) == 50
    assert old not in page
    assert page == sorted(page, key=lambda plan: (plan.created_at, plan.pk), reverse=True)
    assert shown(admin_client, p="2") == [old]


def test_filters(admin_client: Client) -> None:
    paused = PlanFactory(state="paused")
    failed = PlanFactory(state="stopped", result="error")

    assert shown(admin_client, state__exact="paused") == [paused]
    assert set(shown(admin_client, result__exact="error")) == {paused, failed}


def test_search(admin_client: Client) -> None:
    plan, other = PlanFactory(label="100% done"), PlanFactory(label="deadbeef and more")
    PlanFactory(label="1000 done")
    text = str(plan.pk)

    for term in (text, text[:30], text.upper(), text.replace("-", "")):
        assert shown(admin_client, q=term) == [plan]
    assert {plan, other} <= set(shown(admin_client, q=text[:8]))
    assert shown(admin_client, q="100%") == [plan]
    assert shown(admin_client, q="DEADBEEF") == [other]
    assert shown(admin_client, q="done") == []


def test_text_is_escaped(admin_client: Client) -> None:
    PlanFactory(label="</script><img src=x onerror=alert(1)>", triggered_by="<b>me</b>", action="<i>.Nasty")
    page = admin_client.get(reverse(LIST)).text

    assert "<img src=x" not in page
    assert "<b>me" not in page
    assert "&lt;img src=x" in page


def test_pages_hold_no_inline_style_or_script(admin_client: Client) -> None:
    add_steps(PlanFactory(state="running"), 2)
    page = admin_client.get(reverse(LIST)).text

    assert "style=" not in page
    assert "<style" not in page
    assert "<script>" not in page


def test_worlds(admin_client: Client) -> None:
    WorldFactory(pid=4711)
    WorldFactory(heartbeat_at=clock.now() - timedelta(minutes=5))
    page = admin_client.get(reverse("admin:dynflow_app_world_changelist")).text

    assert "4711" in page
    assert "default, rex" in page
    assert "64.0\xa0MB" in page
    assert "Silent" in page
