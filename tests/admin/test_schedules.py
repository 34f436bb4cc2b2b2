"""Schedules in the admin: to look at, to make and change, to pause, resume and run."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from dynflow_app import Cron, Every
from dynflow_app.control import make_schedule, run_now, skip_next
from dynflow_app.models import ExecutionPlan, Occurrence, Schedule
from dynflow_app.states import ScheduleState
from tests.factories import user
from tests.testapp.repeated import Report, Tick

pytestmark = pytest.mark.django_db

LIST = reverse("admin:dynflow_app_schedule_changelist")
ADD = reverse("admin:dynflow_app_schedule_add")
REPORT = "tests.testapp.repeated.Report"


@pytest.fixture
def operator() -> Client:
    """Somebody who may do everything with schedules, and look at plans."""
    permissions = [f"{verb}_schedule" for verb in ("view", "add", "change", "delete")]
    client = Client()
    client.force_login(user("operator", "view_executionplan", *permissions))
    return client


def page(schedule: Schedule) -> str:
    return reverse("admin:dynflow_app_schedule_change", args=[schedule.pk])


def form(**changes: Any) -> dict[str, Any]:
    """What a browser sends."""
    return {
        "label": "Monthly report", "action": REPORT, "input": '{"month": 11}', "every": "", "cron": "0 3 1 * *",
        "time_zone": "Europe/Prague", "overlap": "skip", "missed": "latest", "window": "01:00:00", "jitter": "0",
        "starts_at_0": "2026-01-01", "starts_at_1": "00:00:00", "ends_at_0": "", "ends_at_1": "", "limit": "",
        "purpose": "", **changes,
    }  # fmt: skip


def act(client: Client, verb: str, *schedules: Schedule) -> str:
    answer = client.post(LIST, {"action": verb, "_selected_action": [each.pk for each in schedules]}, follow=True)
    return answer.content.decode()


def test_the_list_shows_what_comes_and_what_was(operator: Client) -> None:
    nightly = make_schedule(Tick, Cron("30 2 * * *", tz="Europe/Prague"), label="Nightly <b>")
    run_now(nightly)
    shown = operator.get(LIST).content.decode()
    for text in ("Nightly &lt;b&gt;", "30 2 * * * (Europe/Prague)", "Active", "Fired", "in "):
        assert text in shown


def test_the_list_costs_the_same_whatever_it_shows(operator: Client) -> None:
    def cost() -> int:
        with CaptureQueriesContext(connection) as queries:
            assert operator.get(LIST).status_code == 200
        return len(queries)

    make_schedule(Tick, Every(seconds=5))
    few = cost()
    for _ in range(20):
        make_schedule(Tick, Every(seconds=5))
    assert cost() == few


def test_the_page_previews_ten_and_shows_occurrences(operator: Client) -> None:
    schedule = make_schedule(Tick, Cron("30 2 * * *", tz="Europe/Prague"))
    plan = run_now(schedule, by="ada", reason="wants to see")
    skip_next(schedule, by="ada", reason="holiday")
    shown = operator.get(page(schedule)).content.decode()
    assert shown.count(":30:00 CE") == 10
    assert "skipped by ada: holiday" in shown
    assert reverse("admin:dynflow_app_executionplan_change", args=[plan.pk]) in shown


def test_a_schedule_is_made_and_changed(operator: Client) -> None:
    # when somebody fills in the form
    assert operator.post(ADD, form()).status_code == 302
    schedule = Schedule.objects.get()
    assert (schedule.state, schedule.changed_by, schedule.input) == (ScheduleState.ACTIVE, "operator", {"month": 11})
    assert schedule.due_at is not None

    # and changes it, then it is due at another time
    assert operator.post(page(schedule), form(cron="0 4 1 * *")).status_code == 302
    schedule.refresh_from_db()
    assert schedule.cron == "0 4 1 * *"
    assert schedule.due_at.minute == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cron": "61 * * * *"}, "its minute cannot be"),
        ({"cron": ""}, "Give either a cron line or"),
        ({"time_zone": "Prague"}, "There is no time zone"),
        ({"input": '{"mont": 1}'}, "missing a required argument"),
        ({"input": "{"}, "valid JSON"),
        ({"input": '{"month": ' + "[" * 3000 + "]" * 3000 + "}"}, "nested"),
        ({"input": '{"month": "\\ud800"}'}, "half of a surrogate pair"),
        ({"action": "os.system"}, "Select a valid choice"),
        ({"limit": "0"}, "give a number above zero"),
    ],
)
def test_what_cannot_work_is_refused_with_a_reason(operator: Client, changes: dict[str, str], message: str) -> None:
    answer = operator.post(ADD, form(**changes))
    assert answer.status_code == 200
    assert message in answer.content.decode()
    assert not Schedule.objects.exists()


def test_secrets_are_not_shown_and_not_lost(operator: Client) -> None:
    schedule = make_schedule(Report, Every(days=1, input={"month": 11, "token": "geheim"}))
    assert "geheim" not in operator.get(page(schedule)).content.decode()
    sent = form(cron="", every="1 00:00:00", input='{"month": 12, "token": "••••"}')
    assert operator.post(page(schedule), sent).status_code == 302
    before = schedule.input["token"]
    schedule.refresh_from_db()
    assert schedule.input["month"] == 12
    assert str(before) == str(schedule.input["token"])
    assert "geheim" not in operator.get(page(schedule)).content.decode()


def test_verbs(operator: Client) -> None:
    first, second = (make_schedule(Tick, Every(hours=1)) for _ in range(2))
    assert "2 paused" in act(operator, "pause", first, second)
    shown = act(operator, "pause", first)
    assert f"{first.pk}: Schedule {first.pk} is paused and cannot be paused" in shown
    assert "1 resumed" in act(operator, "resume", first)
    assert "1 occurrences skipped" in act(operator, "skip_next", first)
    assert "2 run now" in act(operator, "run_now", first, second)
    assert "is still scheduled" in act(operator, "run_now", first)
    assert ExecutionPlan.objects.count() == 2
    assert set(ExecutionPlan.objects.values_list("triggered_by", flat=True)) == {"operator"}


def test_what_code_declares_can_be_paused_but_not_changed_or_deleted(operator: Client) -> None:
    schedule = make_schedule(Report, Every(hours=1, input={"month": 11, "token": "geheim"}))
    Schedule.objects.update(is_declared=True)
    shown = operator.get(page(schedule)).content.decode()
    assert 'name="cron"' not in shown
    assert "geheim" not in shown
    operator.post(page(schedule), form())
    assert operator.post(reverse("admin:dynflow_app_schedule_delete", args=[schedule.pk])).status_code == 403
    schedule.refresh_from_db()
    assert (schedule.cron, schedule.label) == ("", "")
    assert "1 paused" in act(operator, "pause", schedule)


def test_a_schedule_that_was_made_here_can_be_deleted_with_its_occurrences(operator: Client) -> None:
    schedule = make_schedule(Tick, Every(hours=1))
    run_now(schedule)
    Occurrence.objects.create(schedule=schedule, due_at=timezone.now(), outcome="missed")
    url = reverse("admin:dynflow_app_schedule_delete", args=[schedule.pk])
    assert operator.post(url, {"post": "yes"}).status_code == 302
    assert not Occurrence.objects.exists()
    assert ExecutionPlan.objects.get().schedule is None


def test_who_may_only_look_does_nothing() -> None:
    schedule = make_schedule(Report, Every(hours=1, input={"month": 11, "token": "geheim"}))
    viewer = Client()
    viewer.force_login(user("viewer", "view_schedule"))
    shown = viewer.get(page(schedule)).content.decode()
    assert "geheim" not in shown
    act(viewer, "pause", schedule)
    assert viewer.post(page(schedule), form()).status_code == 403
    assert viewer.get(ADD).status_code == 403
    schedule.refresh_from_db()
    assert schedule.state == ScheduleState.ACTIVE
