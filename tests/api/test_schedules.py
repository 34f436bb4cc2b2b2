"""Schedules over HTTP: bodies, what comes, what was; read-only, and without secrets."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from dynflow_app import Cron, Every
from dynflow_app.control import make_schedule, pause_schedule, run_now
from dynflow_app.models import Occurrence
from tests.factories import user
from tests.testapp.repeated import Report, Tick

pytestmark = pytest.mark.django_db
LIST = "/dynflow/v1/schedules/"


@pytest.fixture
def client() -> APIClient:
    """Somebody who may look at schedules."""
    made = APIClient()
    made.force_authenticate(user("reader", "view_schedule", is_staff=False))
    return made


def test_body_and_what_comes(client: APIClient) -> None:
    schedule = make_schedule(
        Report, Cron("30 2 * * *", tz="Europe/Prague", input={"month": 11, "token": "geheim"}), label="Nightly"
    )
    answer = client.get(f"{LIST}{schedule.pk}/")
    body = answer.json()
    assert (body["label"], body["cron"], body["time_zone"], body["every"]) == (
        "Nightly", "30 2 * * *", "Europe/Prague", None,
    )  # fmt: skip
    assert (body["state"], body["is_declared"], body["window"], body["fired"]) == ("active", False, 3600.0, 0)
    assert body["input"] == {"month": 11, "token": "••••"}
    assert len(body["coming"]) == 10
    assert body["coming"][0] == body["due_at"] == body["next_at"]
    assert client.get(f"{LIST}{schedule.pk}/", headers={"If-None-Match": answer["ETag"]}).status_code == 304
    pause_schedule(schedule, by="ada")
    assert client.get(f"{LIST}{schedule.pk}/", headers={"If-None-Match": answer["ETag"]}).json()["state"] == "paused"
    assert client.get(f"{LIST}999999/").status_code == 404


def test_the_list_is_paged_narrowed_and_costs_one_query(client: APIClient) -> None:
    made = [make_schedule(Tick, Every(seconds=5)) for _ in range(5)]
    pause_schedule(made[0])
    with CaptureQueriesContext(connection) as queries:
        first = client.get(LIST, {"page_size": 2}).json()
    assert len([each for each in queries if "dynflow_app_" in each["sql"]]) == 1
    assert [each["id"] for each in first["results"]] == [made[4].pk, made[3].pk]
    assert first["results"][0]["every"] == 5.0
    assert "input" not in first["results"][0]
    second = client.get(first["next"]).json()
    assert [each["id"] for each in second["results"]] == [made[2].pk, made[1].pk]
    assert [each["id"] for each in client.get(LIST, {"state": "paused"}).json()["results"]] == [made[0].pk]
    assert client.get(LIST, {"stat": "paused"}).status_code == 400


def test_occurrences(client: APIClient) -> None:
    schedule = make_schedule(Tick, Every(seconds=5))
    plan = run_now(schedule, by="ada")
    long_ago = timezone.now() - timedelta(days=1)
    Occurrence.objects.create(schedule=schedule, due_at=long_ago, outcome="missed", reason="Nobody was there.")
    url = client.get(f"{LIST}{schedule.pk}/").json()["links"]["occurrences"]
    latest, oldest = client.get(url).json()["results"]
    assert (latest["outcome"], latest["plan"]) == ("fired", f"/dynflow/v1/plans/{plan.pk}/")
    assert (oldest["outcome"], oldest["plan"], oldest["reason"]) == ("missed", None, "Nobody was there.")
    assert len(client.get(url, {"outcome": "missed"}).json()["results"]) == 1
    assert client.get(f"{LIST}999999/occurrences/").status_code == 404


def test_who_may_not_look_sees_nothing_and_nobody_changes_anything(client: APIClient) -> None:
    schedule = make_schedule(Tick, Every(seconds=5))
    stranger = APIClient()
    assert stranger.get(LIST).status_code in (401, 403)
    stranger.force_authenticate(user("stranger", "view_executionplan", is_staff=False))
    for url in (LIST, f"{LIST}{schedule.pk}/", f"{LIST}{schedule.pk}/occurrences/"):
        assert stranger.get(url).status_code == 403
        assert client.post(url, {}).status_code == 405
        assert client.delete(url).status_code == 405
