"""What becomes of due times at which nobody was there; and of ten thousand at once."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from time import monotonic

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from dynflow_app import Every, Missed, Overlap
from dynflow_app.models import ExecutionPlan, Occurrence, Schedule
from dynflow_app.models.schedule import KEPT_OCCURRENCES
from dynflow_app.orchestrator import schedules
from tests.engine import Engine
from tests.integration.test_schedules import act, made, outcomes
from tests.testapp.repeated import Tick

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize(
    ("missed", "expected"),
    [
        (Missed.LATEST, {"fired": 1, "missed": 4}),
        (Missed.SKIP, {"fired": 1, "missed": 4}),  # the last is hardly late
        (Missed.ALL, {"fired": 5}),
    ],
)
def test_what_was_missed_follows_its_policy(engine: Engine, missed: Missed, expected: dict[str, int]) -> None:
    schedule = made(missed=missed, overlap=Overlap.ALLOW)
    engine.pass_time(50)
    act(engine)
    assert outcomes(schedule) == expected
    fired = [each.due_at for each in schedule.occurrences.order_by("due_at") if each.outcome == "fired"]
    schedule.refresh_from_db()
    assert fired[-1] + timedelta(seconds=10) == schedule.due_at > timezone.now()


def test_a_daily_job_that_is_an_hour_late_runs_unless_it_is_to_be_skipped(engine: Engine) -> None:
    # given daily jobs, and a night in which nobody was there
    a_day = timedelta(days=1)
    later = made(Every(days=1, missed=Missed.LATEST))
    never = made(Every(days=1, missed=Missed.SKIP))
    all_of_two_days = made(Every(days=1, missed=Missed.ALL, window=2 * a_day, overlap=Overlap.ALLOW))
    engine.pass_time(3 * 86400 + 3600)
    act(engine)
    assert outcomes(later) == {"fired": 1, "missed": 2}
    assert outcomes(never) == {"missed": 3}
    assert outcomes(all_of_two_days) == {"fired": 2, "missed": 1}


def test_all_that_was_missed_is_made_up_for_in_several_transactions(engine: Engine) -> None:
    schedule = made(Every(seconds=1, missed=Missed.ALL, overlap=Overlap.ALLOW))
    engine.pass_time(350)
    act(engine)
    assert outcomes(schedule)["fired"] >= 350
    assert ExecutionPlan.objects.count() == outcomes(schedule)["fired"]


def test_a_long_absence_costs_a_bounded_number_of_rows(engine: Engine) -> None:
    """From reliability: one catch-up per schedule."""
    # given a schedule of every second, and nobody for a month
    schedule = made(Every(seconds=1))
    engine.pass_time(30 * 86400)
    with CaptureQueriesContext(connection) as queries:
        schedules.run_once(engine.term)
    assert outcomes(schedule) == {"fired": 1, "missed": 99}
    assert "Nor at any due time before" in schedule.occurrences.order_by("due_at")[0].reason
    assert len(queries) < 25


def test_history_is_bounded(engine: Engine) -> None:
    schedule = made(Every(seconds=1))
    Schedule.objects.update(decided=KEPT_OCCURRENCES * 2 - 1)
    now = timezone.now()
    Occurrence.objects.bulk_create(
        Occurrence(schedule=schedule, due_at=now - timedelta(seconds=n), outcome="skipped")
        for n in range(KEPT_OCCURRENCES * 2)
    )
    engine.pass_time(1)
    act(engine)
    assert schedule.occurrences.count() <= KEPT_OCCURRENCES + 5


@pytest.mark.slow
@pytest.mark.servers
def test_ten_thousand_at_the_same_moment(engine: Engine) -> None:
    # given ten thousand schedules, of which every one has a plan that has not stopped
    now = timezone.now().replace(microsecond=0)
    columns = {"action": f"{Tick.__module__}.Tick", "queue": "default", "cron": "0 * * * *"}
    times = {"starts_at": now - timedelta(hours=2), "due_at": now, "next_at": now}
    policies = [{"overlap": overlap} for overlap in (Overlap.SKIP, Overlap.QUEUE, Overlap.ALLOW)]
    Schedule.objects.bulk_create(Schedule(**columns, **times, **policies[n % 3]) for n in range(10_000))
    ExecutionPlan.objects.bulk_create(
        ExecutionPlan(schedule=schedule, action=schedule.action, state="running") for schedule in Schedule.objects.all()
    )

    # when they are due
    began = monotonic()
    act(engine)
    took = monotonic() - began

    # then each is acted on once, in a few seconds
    found = Counter(Occurrence.objects.values_list("outcome", flat=True))
    assert found == {"skipped": 3334, "fired": 6666}
    assert not Schedule.objects.filter(next_at__lte=timezone.now()).exists()
    assert took < 60
    print(f"10,000 schedules in {took:.1f} s")  # noqa: T201 - the figure
