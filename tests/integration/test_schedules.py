"""Schedules make plans: each due time at most once, by the policies for overlaps and for what was missed."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from dynflow_app import Cron, Every, Overlap
from dynflow_app.control import make_schedule, pause_schedule
from dynflow_app.exceptions import LostLeadershipError
from dynflow_app.models import ExecutionPlan, Leadership, Occurrence, Schedule
from dynflow_app.orchestrator import schedules, timers
from dynflow_app.retention.cleaning import clean_up
from dynflow_app.retention.selection import Selection
from dynflow_app.states import PlanState, ScheduleState
from tests.engine import Engine
from tests.testapp.journal import Journal
from tests.testapp.repeated import Report, Tick

pytestmark = pytest.mark.django_db(transaction=True)


def made(timing: Any = None, **options: Any) -> Schedule:
    """A schedule of `Tick`, every ten seconds unless said otherwise."""
    return make_schedule(Tick, timing or Every(seconds=10, input={"name": "a"}, **options))


def outcomes(schedule: Schedule) -> Counter[str]:
    return Counter(schedule.occurrences.values_list("outcome", flat=True))


def hold_plans() -> None:
    """Plans that exist are running from now on, and never end."""
    ExecutionPlan.objects.exclude(state="stopped").update(state=PlanState.RUNNING)


def end_plans() -> None:
    ExecutionPlan.objects.update(state=PlanState.STOPPED, result="success", ended_at=timezone.now(), active_steps=0)


def act(engine: Engine) -> None:
    """Let schedules act, and nothing else."""
    while schedules.run_once(engine.term):
        pass


def test_a_due_schedule_makes_a_plan_that_a_worker_plans_and_runs(engine: Engine, journal: Journal) -> None:
    # given a schedule that is due in ten seconds
    schedule = made()
    assert schedule.due_at is not None
    assert 0 < (schedule.due_at - timezone.now()).total_seconds() <= 10
    assert 0 < (timers.look().first or 0) <= 10

    # when it is too early, then nothing happens
    engine.run()
    assert journal.lines == []

    # when ten seconds have passed
    engine.pass_time(10)
    engine.run()

    # then one plan ran, and the next occurrence awaits its time, on the grid
    assert journal.lines == ["tick a"]
    (occurrence,) = schedule.occurrences.all()
    assert (occurrence.outcome, occurrence.plan.result) == ("fired", "success")
    assert occurrence.plan.triggered_by == "schedule Tick, every 10 s"
    schedule.refresh_from_db()
    assert schedule.due_at - occurrence.due_at == timedelta(seconds=10)
    assert schedule.fired == 1


def test_arguments_are_those_of_plan_and_secrets_stay_sealed(engine: Engine, journal: Journal) -> None:
    schedule = make_schedule(Report, Every(seconds=10, input={"month": 11, "token": "geheim"}))
    assert "$sealed" in schedule.input["token"]
    engine.pass_time(10)
    engine.run()
    assert journal.lines == ["report 11 geheim"]


def test_late_looks_do_not_move_the_grid(engine: Engine) -> None:
    # given a schedule that is looked at three seconds late, again and again
    schedule = made(overlap=Overlap.ALLOW)
    for _ in range(5):
        engine.pass_time(10.7)
        act(engine)
    # then all it fired lies on the grid
    schedule.refresh_from_db()
    for due_at in schedule.occurrences.values_list("due_at", flat=True):
        assert (due_at - schedule.starts_at) % timedelta(seconds=10) == timedelta(0)


# --- at most once --------------------------------------------------------------------------------------------------


def test_who_leads_no_more_fires_nothing(engine: Engine) -> None:
    """From reliability: two leaders tick."""
    # given a due schedule, and another leader
    schedule = made()
    engine.pass_time(10)
    Leadership.objects.take()

    # when the old one acts, then nothing is written
    with pytest.raises(LostLeadershipError):
        schedules.run_once(engine.term)
    assert not schedule.occurrences.exists()
    assert not ExecutionPlan.objects.exists()


def test_a_due_time_cannot_be_decided_about_twice() -> None:
    schedule = made()
    now = timezone.now()
    Occurrence.objects.create(schedule=schedule, due_at=now, outcome="fired")
    with pytest.raises(IntegrityError), transaction.atomic():
        Occurrence.objects.create(schedule=schedule, due_at=now, outcome="missed")


def test_a_schedule_that_cannot_be_acted_on_is_set_aside_and_the_others_go_on(engine: Engine) -> None:
    """From reliability: one bad schedule does not stop others."""
    # given one whose coming due time was decided about before, by whatever accident, and a good one
    bad, good = made(), made()
    Occurrence.objects.create(schedule=bad, due_at=bad.due_at, outcome="fired")
    engine.pass_time(10)

    # when they are due, then the good one fires, and the bad one is paused with the reason
    act(engine)
    assert outcomes(good) == {"fired": 1}
    bad.refresh_from_db()
    assert (bad.state, bad.next_at) == (ScheduleState.PAUSED, None)
    assert "IntegrityError" in bad.reason
    assert ExecutionPlan.objects.count() == 1


# --- overlap -------------------------------------------------------------------------------------------------------


def test_skip_makes_no_plan_while_another_has_not_stopped(engine: Engine) -> None:
    """Scenario 53."""
    schedule = made()
    for _ in range(3):
        engine.pass_time(10)
        act(engine)
        hold_plans()
    assert outcomes(schedule) == {"fired": 1, "skipped": 2}
    assert "is still running" in schedule.occurrences.filter(outcome="skipped")[0].reason
    end_plans()
    engine.pass_time(10)
    act(engine)
    assert outcomes(schedule)["fired"] == 2


def test_skip_says_that_a_paused_plan_wants_a_person(engine: Engine, journal: Journal) -> None:
    journal.break_("tick a")
    schedule = made()
    for _ in range(2):
        engine.pass_time(10)
        engine.run()
    assert "is still paused: resume or cancel it" in schedule.occurrences.get(outcome="skipped").reason


def test_allow_makes_as_many_as_are_due(engine: Engine) -> None:
    schedule = made(overlap=Overlap.ALLOW)
    for _ in range(3):
        engine.pass_time(10)
        act(engine)
    assert outcomes(schedule) == {"fired": 3}


def test_queue_keeps_one_plan_waiting_until_the_earlier_one_stops(engine: Engine, journal: Journal) -> None:
    # given one that is under way when two more are due
    schedule = made(overlap=Overlap.QUEUE)
    engine.pass_time(10)
    engine.decide()
    for _ in range(2):
        engine.pass_time(10)
        engine.decide()

    # then one waits and the other is skipped
    assert outcomes(schedule) == {"fired": 2, "skipped": 1}
    first, second = ExecutionPlan.objects.order_by("id")
    assert (first.state, second.state, second.is_waiting) == ("planning", "scheduled", True)

    # when the first has run, then the second runs
    engine.run()
    assert journal.lines == ["tick a", "tick a"]


def test_cancel_ends_the_earlier_plan_and_runs_after_it(engine: Engine, journal: Journal) -> None:
    schedule = made(overlap=Overlap.CANCEL)
    for _ in range(3):
        engine.pass_time(10)
        engine.decide()
    engine.run()
    assert outcomes(schedule) == {"fired": 3}
    results = ExecutionPlan.objects.order_by("id").values_list("state", "result")
    assert list(results) == [("stopped", "cancelled"), ("stopped", "cancelled"), ("stopped", "success")]


def test_plans_of_other_schedules_do_not_matter(engine: Engine) -> None:
    schedule, other = made(), made()
    engine.pass_time(10)
    act(engine)
    hold_plans()
    ExecutionPlan.objects.filter(schedule=schedule).update(state="stopped", result="success", ended_at=timezone.now())
    engine.pass_time(10)
    act(engine)
    assert (outcomes(schedule), outcomes(other)) == ({"fired": 2}, {"fired": 1, "skipped": 1})


# --- limits --------------------------------------------------------------------------------------------------------


def test_a_limit_and_an_end(engine: Engine) -> None:
    limited = made(limit=2, overlap=Overlap.ALLOW)
    ending = made(end=timezone.now() + timedelta(seconds=25), overlap=Overlap.ALLOW)
    for _ in range(4):
        engine.pass_time(10)
        act(engine)
    for schedule in (limited, ending):
        schedule.refresh_from_db()
        assert (schedule.state, schedule.due_at, outcomes(schedule)["fired"]) == (ScheduleState.ENDED, None, 2)


def test_jitter_delays_but_never_beyond_the_following(engine: Engine) -> None:
    delays = set()
    for _ in range(20):
        schedule = made(jitter=timedelta(hours=1))
        assert schedule.due_at <= schedule.next_at < schedule.due_at + timedelta(seconds=10)
        delays.add(schedule.next_at - schedule.due_at)
    assert len(delays) > 10


def test_many_at_once_cost_a_fixed_number_of_statements(engine: Engine) -> None:
    def cost(number: int) -> int:
        Schedule.objects.all().delete()
        for _ in range(number):
            made(Cron("* * * * * *"))
        engine.pass_time(1)
        with CaptureQueriesContext(connection) as queries:
            schedules.run_once(engine.term)
        return len(queries)

    few, many = cost(2), cost(60)
    assert ExecutionPlan.objects.count() == 62
    assert many <= few + 4  # SQLite takes fewer rows in a statement


def test_a_paused_schedule_is_not_due(engine: Engine) -> None:
    schedule = made()
    pause_schedule(schedule)
    engine.pass_time(60)
    act(engine)
    assert not Occurrence.objects.exists()


def test_a_plan_that_is_cleaned_up_leaves_its_occurrence(engine: Engine, journal: Journal) -> None:
    schedule = made()
    engine.pass_time(10)
    engine.run()
    list(clean_up(Selection(older_than=timedelta(0))))
    occurrence = schedule.occurrences.get()
    assert (occurrence.outcome, occurrence.plan) == ("fired", None)
    assert not ExecutionPlan.objects.exists()
