"""Locks and schedules when two things happen at the same moment."""

from __future__ import annotations

from datetime import timedelta

import pytest

from dynflow_app import Every, Overlap, clock, control
from dynflow_app.models import ExecutionPlan, Schedule
from dynflow_app.triggering import trigger
from tests.engine import Engine, outcome
from tests.testapp import contested

pytestmark = pytest.mark.django_db(transaction=True)


def test_what_undoes_a_plan_is_not_refused_for_the_locks_of_that_plan(engine: Engine) -> None:
    # given a plan that fails and is undone, and does not wait for its lock, when both happen in one look of the inbox
    plan = engine.run(trigger(contested.Undone))
    assert outcome(plan) == "stopped/error"

    # then the lock was given back first
    assert outcome(ExecutionPlan.objects.get(made_from=plan)) == "stopped/success"


def test_a_schedule_makes_no_second_active_plan_of_a_singleton(engine: Engine) -> None:
    schedule = control.make_schedule(contested.OnlyOne, Every(hours=1, overlap=Overlap.ALLOW))
    first = engine.run(trigger(contested.OnlyOne))
    second = engine.run(control.run_now(schedule))
    assert outcome(first) == "running/pending"
    assert outcome(second) == "stopped/error"


def test_a_schedule_that_is_saved_while_it_is_due_loses_nothing(engine: Engine) -> None:
    # given a due time that has passed, and is held back by its jitter
    schedule = control.make_schedule(contested.Quick, Every(hours=1, jitter=timedelta(minutes=50)))
    assert schedule.due_at is not None
    Schedule.objects.update(next_at=schedule.due_at + timedelta(minutes=40))
    engine.pass_time(3605)
    schedule.refresh_from_db()
    due_at = schedule.due_at

    # when somebody changes its label, then it is still due
    schedule.label = "another"
    control.save_schedule(schedule)
    schedule.refresh_from_db()
    assert schedule.due_at == due_at


def test_a_skipped_time_does_not_silence_a_denser_timing(engine: Engine) -> None:
    schedule = control.make_schedule(contested.Quick, Every(days=7))
    control.skip_next(schedule)
    schedule.every = timedelta(hours=1)
    control.save_schedule(schedule)
    schedule.refresh_from_db()
    assert schedule.due_at is not None
    assert schedule.due_at - clock.now() < timedelta(hours=2)
