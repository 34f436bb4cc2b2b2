"""Plans: bodies, filters, pages, conditional requests."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.db.models import F
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from dynflow_app import clock
from dynflow_app.models import ExecutionPlan, Step
from tests.factories import FAILURE, PlanFactory, StepFactory, add_steps

pytestmark = pytest.mark.django_db
LIST = "/dynflow/v1/plans/"
EVIL = "</script><img src=x onerror=alert(1)>"


def found(client: APIClient, **parameters: Any) -> list[str]:
    """Ids of the plans that the list answers."""
    response = client.get(LIST, parameters)
    assert response.status_code == 200, response.content
    return [plan["id"] for plan in response.json()["results"]]


def queries(client: APIClient, url: str) -> int:
    """How many the request takes."""
    with CaptureQueriesContext(connection) as captured:
        assert client.get(url).status_code == 200
    return len(captured)


def test_body(viewer: APIClient) -> None:
    plan = PlanFactory(state="running", label="Nightly", tags=["a"], priority=3, triggered_by="ada")
    add_steps(plan, 3)
    add_steps(plan, 1, "running", first=4)
    body = viewer.get(f"{LIST}{plan.pk}/").json()
    duration = body.pop("duration")

    assert 115 < duration < 130
    assert body == {
        "id": str(plan.pk),
        "href": f"{LIST}{plan.pk}/",
        "rev": 0,
        "action": "project.bench.actions.Fan",
        "label": "Nightly",
        "state": "running",
        "result": "pending",
        "progress": {"done": 3, "total": 4, "ratio": 0.75},
        "counts": {"running": 1, "success": 3},
        "error": None,
        "parent": None,
        "start_at": None,
        "created_at": plan.created_at.isoformat().replace("+00:00", "Z"),
        "started_at": plan.started_at.isoformat().replace("+00:00", "Z"),
        "ended_at": None,
        "priority": 3,
        "tags": ["a"],
        "triggered_by": "ada",
        "links": {"steps": f"{LIST}{plan.pk}/steps/", "explanation": f"{LIST}{plan.pk}/explanation/"},
        "poll_after": 5,
        "eta_seconds": None,
        "sub_plans": [],
        "after": [],
        "locks": [],
    }
    of_details = {"eta_seconds", "sub_plans", "after", "locks"}
    assert viewer.get(LIST).json()["results"][0].keys() == {*body, "duration"} - of_details


def test_progress_is_weighted_and_tells_the_time_left(viewer: APIClient) -> None:
    # given earlier runs of 100 s each, and a plan that is half done by weight
    for _ in range(5):
        began = clock.now() - timedelta(hours=1)
        PlanFactory(state="stopped", started_at=began, ended_at=began + timedelta(seconds=100))
    plan = PlanFactory(state="running")
    StepFactory(plan=plan, state="success", weight=3)
    step = StepFactory(plan=plan, state="running", weight=5, progress=0.2)
    url = f"{LIST}{plan.pk}/"
    first = viewer.get(url)

    # then
    assert first.json()["progress"] == {"done": 1, "total": 2, "ratio": 0.5}
    assert first.json()["eta_seconds"] == 50
    assert viewer.get(LIST, {"state": "running"}).json()["results"][0]["progress"]["ratio"] == 0.5

    # when the step says that it has come further, that is a change
    Step.objects.filter(pk=step.pk).update(progress=0.6)
    again = viewer.get(url, headers={"If-None-Match": first.headers["ETag"]})
    assert again.json()["progress"]["ratio"] == 0.75


def test_explanation(viewer: APIClient) -> None:
    # given a paused plan and one that has stopped
    paused = PlanFactory(state="paused")
    step = StepFactory(plan=paused, state="error", action__number=3)
    stopped = PlanFactory(state="stopped")

    # then the first tells why, and nobody keeps the answer
    response = viewer.get(f"{LIST}{paused.pk}/explanation/")
    (reason,) = response.json()["reasons"]
    assert response.headers["Cache-Control"] == "no-store"
    assert reason.keys() == {"code", "message", "remedy", "step", "since"}
    assert (reason["code"], reason["step"]) == ("step_failed", 3)
    assert reason["since"] == step.ended_at.isoformat().replace("+00:00", "Z")
    assert viewer.get(f"{LIST}{stopped.pk}/explanation/").json() == {"reasons": []}


def test_times_are_utc_in_any_zone(viewer: APIClient, settings: Any) -> None:
    settings.TIME_ZONE = "Asia/Tokyo"
    plan = PlanFactory()

    assert viewer.get(f"{LIST}{plan.pk}/").json()["created_at"].endswith("Z")


def test_error_is_that_of_planning_or_of_the_first_failed_step(viewer: APIClient) -> None:
    paused = PlanFactory(state="paused")
    second, first = StepFactory(plan=paused, state="error", number=2), StepFactory(plan=paused, state="error", number=1)
    Step.objects.filter(pk=first.pk).update(error={**FAILURE, "message": EVIL})
    unplanned = PlanFactory(state="stopped", result="error", error={"class": "E", "message": "no", "backtrace": "x"})

    assert viewer.get(f"{LIST}{paused.pk}/").json()["error"] == {"class": FAILURE["class"], "message": EVIL, "step": 1}
    assert viewer.get(f"{LIST}{unplanned.pk}/").json()["error"] == {
        "class": "E",
        "message": "no",
        "step": None,
    }
    assert "backtrace" not in viewer.get(LIST).content.decode()
    assert second.number == 2


def test_pages_for_people_are_escaped(viewer: APIClient) -> None:
    PlanFactory(label=EVIL)
    page = viewer.get(LIST, headers={"Accept": "text/html"}).content.decode()

    assert "<img src=x" not in page
    assert "&lt;img src=x" in page


def test_number_of_queries(viewer: APIClient, django_user_model: type[User]) -> None:
    root = APIClient()
    root.force_authenticate(django_user_model.objects.create_superuser("root"))
    for _ in range(3):
        add_steps(plan := PlanFactory(state="running"), 2)
    few = queries(root, f"{LIST}?page_size=2")
    for _ in range(60):
        add_steps(PlanFactory(state="paused"), 2, "error")
    detail = f"{LIST}{plan.pk}/"

    assert few == queries(root, f"{LIST}?page_size=200") == 2
    assert queries(root, detail) == 5  # how long earlier runs took, sub-plans, prerequisites
    viewer.get(LIST)  # from here on the user's permissions are known to the test's user object
    assert queries(viewer, LIST) <= 4
    assert queries(viewer, detail) <= 7


def test_filters(viewer: APIClient) -> None:
    now = clock.now()
    old = PlanFactory(state="stopped", result="error", label="Night A", created_at=now - timedelta(days=3))
    new = PlanFactory(state="running", action="a.B", label="night B")
    far = PlanFactory(label="100% sure")
    ids = [str(plan.pk) for plan in (old, new, far)]

    assert found(viewer, state="running") == [ids[1]]
    assert set(found(viewer, state=["running", "stopped"])) == {ids[0], ids[1]}
    assert found(viewer, result="error") == [ids[0]]
    assert found(viewer, action="a.B") == [ids[1]]
    assert set(found(viewer, label="night")) == {ids[0], ids[1]}
    assert found(viewer, label="100%") == [ids[2]]
    assert found(viewer, label="sure") == []
    assert found(viewer, created_before=(now - timedelta(days=1)).isoformat()) == [ids[0]]
    assert ids[0] not in found(viewer, created_after=(now - timedelta(days=1)).isoformat())
    assert found(viewer, ended_before=now.isoformat()) == [ids[0]]
    assert found(viewer, started_after=(now - timedelta(days=1)).isoformat()) == [ids[1]]
    assert set(found(viewer, id__in=f"{ids[0]},{ids[2]}")) == {ids[0], ids[2]}
    assert found(viewer, id__in=str(uuid.uuid4())) == []
    assert len(found(viewer, id__in=",".join([ids[0]] * 200))) == 1


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("stat", "running"),
        ("state", "runing"),
        ("created_after", "yesterday"),
        ("id__in", "1,2"),
        ("id__in", ",".join(str(uuid.UUID(int=n)) for n in range(201))),
        ("label", "a\0b"),
        ("page_size", "201"),
        ("page_size", "0"),
        ("page_size", "²"),
        ("cursor", "nonsense"),
        ("cursor", "W10"),
        ("cursor", "WzAsICJ4IiwgInkiXQ"),
    ],
)
def test_what_means_nothing_is_refused(viewer: APIClient, parameter: str, value: str) -> None:
    response = viewer.get(LIST, {parameter: value})
    body = response.json()

    assert response.status_code == 400
    assert response.headers["Content-Type"] == "application/problem+json"
    assert body["type"] == "invalid-input"
    assert {error["parameter"] for error in body["errors"]} == {parameter}


def test_unknown_parameters_are_refused_on_every_route(viewer: APIClient) -> None:
    step = StepFactory(action__number=1)
    for path in (
        "",
        f"{step.plan_id}/",
        f"{step.plan_id}/explanation/",
        f"{step.plan_id}/steps/",
        f"{step.plan_id}/steps/1/",
    ):
        assert viewer.get(f"{LIST}{path}?wat=1").json()["errors"][0]["code"] == "unknown"
        assert viewer.get(f"{LIST}{path}?format=json").status_code == 200


def test_pages_hold_every_plan_once(viewer: APIClient) -> None:
    moment = clock.now()
    PlanFactory.create_batch(4, created_at=moment)
    PlanFactory.create_batch(3, created_at=moment - timedelta(seconds=1))
    expected = [str(pk) for pk in ExecutionPlan.objects.values_list("pk", flat=True)]
    pages: list[list[str]] = []
    url: str | None = f"{LIST}?page_size=3&state=planned"
    while url:
        response = viewer.get(url)
        body = response.json()
        pages.append([plan["id"] for plan in body["results"]])
        previous, url = body["previous"], body["next"]
        assert (f'<{url}>; rel="next"' in response.headers["Link"]) == bool(url)
        PlanFactory(created_at=moment + timedelta(minutes=1))  # what comes later disturbs nobody

    assert [len(page) for page in pages] == [3, 3, 1]
    assert [pk for page in pages for pk in page] == expected
    back = viewer.get(previous).json()
    assert [plan["id"] for plan in back["results"]] == pages[1]
    assert [plan["id"] for plan in viewer.get(back["next"]).json()["results"]] == pages[2]
    assert [plan["id"] for plan in viewer.get(back["previous"]).json()["results"]] == pages[0]


@pytest.mark.parametrize(("age", "wait"), [(0, 1), (9, 1), (11, 2), (59, 2), (61, 5), (599, 5), (601, 30), (9999, 30)])
def test_when_to_ask_again(viewer: APIClient, age: int, wait: int) -> None:
    plan = PlanFactory(created_at=clock.now() - timedelta(seconds=age))
    response = viewer.get(f"{LIST}{plan.pk}/")

    assert response.headers["Retry-After"] == str(wait)
    assert response.json()["poll_after"] == wait
    assert viewer.get(LIST).json()["results"][0]["poll_after"] == wait


def test_a_final_plan_need_not_be_polled(viewer: APIClient) -> None:
    plan = PlanFactory(state="stopped")
    response = viewer.get(f"{LIST}{plan.pk}/")

    assert "Retry-After" not in response.headers
    assert response.json()["poll_after"] is None


def test_conditional_requests(viewer: APIClient) -> None:
    plan = PlanFactory(state="running")
    step = StepFactory(plan=plan, state="ready")
    for url in (LIST, f"{LIST}{plan.pk}/"):
        first = viewer.get(url)
        etag = first.headers["ETag"]
        assert etag.startswith('W/"')
        for given in (etag, etag.removeprefix("W/"), f'"x", {etag}', "*"):
            again = viewer.get(url, headers={"If-None-Match": given})
            assert again.status_code == 304
            assert again.content == b""
            assert again.headers["ETag"] == etag
        assert viewer.get(url, headers={"If-None-Match": '"x"'}).status_code == 200
        ExecutionPlan.objects.filter(pk=plan.pk).update(revision=plan.revision + 1)
        changed = viewer.get(url, headers={"If-None-Match": etag})
        assert changed.status_code == 200
        etag = changed.headers["ETag"]
        Step.objects.filter(pk=step.pk).update(attempt=F("attempt") + 1)  # a claim does not raise the revision
        assert viewer.get(url, headers={"If-None-Match": etag}).status_code == 200
        plan.refresh_from_db()


def test_a_new_plan_changes_the_list(viewer: APIClient) -> None:
    etag = viewer.get(LIST).headers["ETag"]
    PlanFactory()

    assert viewer.get(LIST, headers={"If-None-Match": etag}).status_code == 200
