"""Steps: lists, details, masking, conditional requests."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from dynflow_app.models import Action, ExecutionPlan, Step
from dynflow_app.states import StepState
from tests.factories import FAILURE, AttemptFactory, ChunkFactory, PlanFactory, StepFactory, add_steps

pytestmark = pytest.mark.django_db
EVIL = "</script><img src=x onerror=alert(1)>"


def steps_of(plan: ExecutionPlan, number: int | None = None) -> str:
    """Address of the steps, or of one."""
    return f"/dynflow/v1/plans/{plan.pk}/steps/" + (f"{number}/" if number else "")


def queries(client: APIClient, url: str, **headers: str) -> int:
    """How many the request takes."""
    with CaptureQueriesContext(connection) as captured:
        assert client.get(url, headers=headers).status_code in (200, 304)
    return len(captured)


def test_list(viewer: APIClient) -> None:
    plan = PlanFactory(state="paused")
    add_steps(plan, 1)
    add_steps(plan, 1, "error", first=2)
    response = viewer.get(steps_of(plan))
    first, second = response.json()["results"]

    assert first == {
        "number": 1,
        "href": steps_of(plan, 1),
        "phase": "run",
        "action": "project.bench.actions.NoOp",
        "state": "success",
        "queue": "default",
        "priority": 0,
        "attempt": 1,
        "error": None,
        "ready_at": first["ready_at"],
        "started_at": first["started_at"],
        "ended_at": first["ended_at"],
        "duration": 3.5,
    }
    assert first["ended_at"].endswith("Z")
    assert second["error"] == {"class": FAILURE["class"], "message": FAILURE["message"]}
    assert "backtrace" not in response.content.decode()
    assert response.headers["Retry-After"] == "5"


def test_filters_and_pages(viewer: APIClient) -> None:
    plan = PlanFactory(state="paused")
    add_steps(plan, 5)
    add_steps(plan, 2, "error", first=6)
    add_steps(PlanFactory(), 3)
    numbers, url = [], f"{steps_of(plan)}?page_size=3"
    while url:
        body = viewer.get(url).json()
        numbers.append([step["number"] for step in body["results"]])
        url = body["next"]

    assert numbers == [[1, 2, 3], [4, 5, 6], [7]]
    assert [s["number"] for s in viewer.get(steps_of(plan), {"state": "error"}).json()["results"]] == [6, 7]
    assert viewer.get(steps_of(plan), {"queue": "rex"}).json()["results"] == []
    assert len(viewer.get(steps_of(plan), {"phase": "run"}).json()["results"]) == 7
    assert viewer.get(steps_of(plan), {"phase": "plan"}).status_code == 400


def test_number_of_queries(viewer: APIClient, django_user_model: type[User]) -> None:
    root = APIClient()
    root.force_authenticate(django_user_model.objects.create_superuser("root"))
    few, many = PlanFactory(state="running"), PlanFactory(state="running")
    add_steps(few, 2)
    steps = add_steps(many, 300, "error")
    for number in range(2, 12):
        AttemptFactory(step=steps[0], number=number)
        ChunkFactory(action=steps[0].action)
    Step.objects.filter(pk=steps[0].pk).update(attempt=11)
    etag = root.get(steps_of(many)).headers["ETag"]

    assert queries(viewer, steps_of(many) + "?page_size=200") <= 4
    assert queries(root, steps_of(few)) == queries(root, steps_of(many) + "?page_size=200") == 2
    assert queries(root, steps_of(many), **{"If-None-Match": etag}) == 1
    assert queries(root, steps_of(many, 1)) == 3
    assert queries(root, steps_of(few, 1)) == 2  # a first success has no rows of attempts to look for


def test_the_list_changes_with_whatever_happens_to_a_step(viewer: APIClient) -> None:
    plan = PlanFactory(state="running")
    step = StepFactory(plan=plan, state="pending")
    mine = Step.objects.filter(pk=step.pk)
    changes = [
        {"state": StepState.READY},
        {"state": StepState.RUNNING, "attempt": 1, "worker": "worker.example.com:1000"},  # claimed
        {"state": StepState.READY},  # handed back
        {"state": StepState.RUNNING, "attempt": 2, "worker": "worker.example.com:1001"},  # claimed again
        {"state": StepState.ERROR, "error": FAILURE},
    ]
    for url in (steps_of(plan), steps_of(plan, step.number), f"/dynflow/v1/plans/{plan.pk}/"):
        mine.update(state=StepState.PENDING, attempt=0, worker="", error=None)
        seen = [viewer.get(url).headers["ETag"]]
        for change in changes:
            mine.update(**change)
            response = viewer.get(url, headers={"If-None-Match": seen[-1]})
            assert response.status_code == 200
            seen.append(response.headers["ETag"])
            assert viewer.get(url, headers={"If-None-Match": seen[-1]}).status_code == 304
        ExecutionPlan.objects.filter(pk=plan.pk).update(revision=plan.revision + 1)  # as every outcome does
        plan.refresh_from_db()
        seen.append(viewer.get(url).headers["ETag"])
        assert len(set(seen)) == len(seen)


def test_a_plan_without_steps(viewer: APIClient) -> None:
    plan = PlanFactory()

    assert viewer.get(steps_of(plan)).json() == {"next": None, "previous": None, "results": []}


def test_detail(viewer: APIClient) -> None:
    plan = PlanFactory(state="running")
    step = StepFactory(plan=plan, action__number=1, state="success", attempt=2)
    AttemptFactory(step=step, number=1)
    AttemptFactory(step=step, number=2, ended_as="succeeded", error=None)
    Action.objects.update(
        input={"host": "h1", "password": "hunter2", "Deep": [{"API-Key": ["hunter3"], "x": EVIL}]},
        output={"Authorization": "hunter4", "n": 1},
    )
    ChunkFactory(action=step.action, text="one\n")
    ChunkFactory(action=step.action, text=EVIL)
    body = viewer.get(steps_of(plan, 1)).json()

    assert body["input"] == {"host": "h1", "password": "••••", "Deep": [{"API-Key": "••••", "x": EVIL}]}
    assert body["output"] == {"Authorization": "••••", "n": 1}
    assert [attempt["ended_as"] for attempt in body["attempts"]] == ["failed", "succeeded"]
    assert body["attempts"][0]["error"]["message"] == FAILURE["message"]
    assert body["attempts"][1]["error"] is None
    assert body["attempts"][0]["duration"] == 3
    assert [chunk["text"] for chunk in body["chunks"]] == ["one\n", EVIL]
    page = viewer.get(steps_of(plan, 1), headers={"Accept": "text/html"}).content.decode()
    assert "<img src=x" not in page


def test_output_is_the_newest_and_new_output_is_a_change(viewer: APIClient) -> None:
    step = StepFactory(action__number=1, state="success")
    url = steps_of(step.plan, 1)
    ChunkFactory(action=step.action, text="a" * 60_000)
    etag = viewer.get(url).headers["ETag"]
    ChunkFactory(action=step.action, text="b" * 60_000)
    response = viewer.get(url, headers={"If-None-Match": etag})
    texts = [chunk["text"] for chunk in response.json()["chunks"]]

    assert texts == ["a" * (65_536 - 60_000), "b" * 60_000]
