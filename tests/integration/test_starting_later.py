"""Plans that start later: a worker plans them when their time has come, or when other plans have stopped."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta

import pytest
from django.contrib.auth.models import Group
from django.utils import timezone

from dynflow_app import control
from dynflow_app.exceptions import NotSerializableError, PlanningError
from dynflow_app.models import Envelope, ExecutionPlan, Step
from dynflow_app.states import PlanResult, PlanState
from dynflow_app.triggering import TriggerOptions, chain, delay, trigger, trigger_many
from tests.engine import Engine, outcome
from tests.support import Processes, wait_until
from tests.testapp.actions import Record
from tests.testapp.journal import Journal
from tests.testapp.later import FailsToPlan, MeddlesWhilePlanning, PlansForGroup, PlansParts

IN_AN_HOUR = timedelta(hours=1)


@pytest.mark.django_db(transaction=True)
def test_a_plan_waits_for_its_time_and_is_then_planned_and_run_once(engine: Engine, journal: Journal) -> None:
    # given a plan that is to start in an hour
    plan = delay(PlansParts, ["a", "b"], start_at=timezone.now() + IN_AN_HOUR)

    # when the engine looks at it before that
    assert engine.decide() == engine.work() == 0
    assert outcome(plan) == "scheduled/pending"
    assert journal.lines == []

    # and when the hour has passed
    engine.pass_time(3601)
    engine.run(plan)

    # then it was planned, and has run, once
    assert outcome(plan) == "stopped/success"
    assert journal.lines == ["plan a b", "run a", "run b"]
    assert [step.phase for step in plan.steps.order_by("number")] == ["plan", "run", "run", "finalize"]


@pytest.mark.django_db(transaction=True)
def test_model_instances_are_read_when_the_plan_is_planned(engine: Engine, journal: Journal) -> None:
    # given a plan about a row, which then gets another name
    group = Group.objects.create(name="old")
    plan = trigger(PlansForGroup, group, options=TriggerOptions(plan_in_worker=True))
    Group.objects.update(name="new")

    # when a worker plans it, then it sees the row as it is
    engine.run(plan)
    assert outcome(plan) == "stopped/success"
    assert journal.lines == ["run new"]

    # and if the row is gone, the plan says so
    plan = trigger(PlansForGroup, group, options=TriggerOptions(plan_in_worker=True))
    Group.objects.all().delete()
    engine.run(plan)
    assert outcome(plan) == "stopped/error"
    assert "was deleted before it was planned" in plan.error["message"]


@pytest.mark.django_db(transaction=True)
def test_a_plan_phase_that_fails_in_a_worker_leaves_a_stopped_plan_and_nothing_else(engine: Engine) -> None:
    plan = trigger(FailsToPlan, options=TriggerOptions(plan_in_worker=True))
    engine.run(plan)
    assert outcome(plan) == "stopped/error"
    assert plan.error["message"] == "no such host"
    assert not Group.objects.filter(name="half").exists()
    assert [action.number for action in plan.actions.all()] == [1]


@pytest.mark.django_db(transaction=True)
def test_a_verb_that_is_refused_while_planning_is_a_failure_like_any_other(engine: Engine) -> None:
    plan = engine.run(trigger(MeddlesWhilePlanning, options=TriggerOptions(plan_in_worker=True)))
    assert outcome(plan) == "stopped/error"
    assert plan.error["message"] == "not now"


@pytest.mark.django_db(transaction=True)
def test_what_starts_too_late_does_not_start(engine: Engine, journal: Journal) -> None:
    # given a plan that has to start within an hour, and is frozen
    now = timezone.now()
    plan = delay(Record, name="a", start_at=now + timedelta(minutes=30), start_before=now + IN_AN_HOUR)
    control.freeze(plan)

    # when both times have passed
    engine.pass_time(1801)
    engine.decide()
    assert outcome(plan) == "scheduled/pending"
    engine.pass_time(1800)
    engine.run(plan)

    # then it has stopped
    assert outcome(plan) == "stopped/error"
    assert plan.error["class"] == "TooLate"
    assert journal.lines == []


@pytest.mark.django_db(transaction=True)
def test_a_scheduled_plan_is_cancelled_and_frozen_like_any_other(engine: Engine, journal: Journal) -> None:
    # given two scheduled plans, one of them frozen
    plans = [delay(Record, name=name, start_at=timezone.now() + IN_AN_HOUR) for name in "ab"]
    control.cancel(plans[0])
    control.freeze(plans[1])

    # when their time has come, then neither runs
    engine.pass_time(3601)
    engine.run()
    assert [outcome(plan) for plan in plans] == ["stopped/cancelled", "scheduled/pending"]
    assert not Envelope.objects.exists()

    # and the frozen one does when it is let go
    control.unfreeze(plans[1])
    engine.run()
    assert outcome(plans[1]) == "stopped/success"
    assert journal.lines == ["run b"]


@pytest.mark.django_db(transaction=True)
def test_a_chained_plan_starts_after_all_its_prerequisites(engine: Engine, journal: Journal) -> None:
    # given a plan chained after two, of which one waits for a person
    journal.break_("run b")
    first, second = (trigger(Record, name=name) for name in "ab")
    plan = chain([first, second], Record, name="after")
    engine.run()
    assert outcome(second) == "paused/error"
    assert outcome(plan) == "scheduled/pending"
    assert plan.is_waiting

    # when that one goes on, then the chained one follows
    journal.repair("run b")
    control.resume(second)
    engine.run()
    assert outcome(plan) == "stopped/success"
    assert journal.lines[-2:] == ["run b", "run after"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("accepts", [(PlanResult.SUCCESS,), (PlanResult.SUCCESS, PlanResult.CANCELLED)])
def test_what_becomes_of_a_plan_whose_prerequisite_was_cancelled_is_declared(
    engine: Engine, journal: Journal, accepts: tuple[PlanResult, ...]
) -> None:
    first = trigger(Record, name="a")
    plan = chain([first], Record, name="after", options=TriggerOptions(on_prerequisite=accepts))
    control.cancel(first)
    engine.run(plan)
    if PlanResult.CANCELLED in accepts:
        assert outcome(plan) == "stopped/success"
    else:
        assert outcome(plan) == "stopped/error"
        assert str(first.pk) in plan.error["message"]
        assert journal.lines == []


@pytest.mark.django_db(transaction=True)
def test_a_deleted_prerequisite_counts_as_failed(engine: Engine) -> None:
    first = trigger(Record, name="a", options=TriggerOptions(start_at=timezone.now() + IN_AN_HOUR))
    plan = chain([first], Record, name="after")
    engine.decide()
    first.delete()
    ExecutionPlan.objects.filter(pk=plan.pk).update(is_waiting=False)
    Envelope.objects.create(kind="planned", plan=plan)
    engine.run(plan)
    assert outcome(plan) == "stopped/error"
    assert "a plan that was deleted" in plan.error["message"]


@pytest.mark.django_db(transaction=True)
def test_a_thousand_plans_for_later_cost_no_statement_each(
    engine: Engine, django_assert_max_num_queries: object
) -> None:
    # given
    inputs = [{"name": str(n)} for n in range(1000)]
    with django_assert_max_num_queries(85):  # type: ignore[operator]
        plans = trigger_many(Record, inputs, options=TriggerOptions(start_at=timezone.now() - IN_AN_HOUR))

    # when the orchestrator lets workers plan 500 at a time
    with django_assert_max_num_queries(100):  # type: ignore[operator]
        engine.decide()

    # then all wait for one
    assert Step.objects.filter(plan__in=plans, phase="plan", state="ready").count() == 1000


@pytest.mark.django_db
def test_what_no_plan_can_have_is_refused() -> None:
    now = timezone.now()
    with pytest.raises(PlanningError, match="time zone"):
        delay(Record, name="later", start_at=datetime(2030, 1, 1))  # noqa: DTZ001 - the point
    with pytest.raises(PlanningError, match="never start"):
        delay(Record, name="later", start_at=now, start_before=now - IN_AN_HOUR)
    with pytest.raises(PlanningError, match="execution plans only"):
        chain(["a"], Record, name="later")  # type: ignore[list-item] # the point
    with pytest.raises(NotSerializableError, match="not saved"):
        delay(PlansForGroup, Group(), start_at=now)


@pytest.mark.servers
@pytest.mark.processes
def test_timers_due_while_everything_was_down_fire_once_after_the_start(processes: Processes, journal: Journal) -> None:
    # given plans that were to start while no process ran
    soon = timezone.now() + timedelta(milliseconds=300)
    plans = [trigger(Record, name=str(n), options=TriggerOptions(start_at=soon)) for n in range(20)]
    wait_until(lambda: timezone.now() > soon, describe="their time has come")

    # when the processes start
    processes.manage("dynflow_orchestrator")
    processes.manage("rqworker", "default")

    # then each runs once
    for plan in plans:
        assert plan.wait(timeout=30).result == PlanResult.SUCCESS
    assert Counter(journal.lines) == Counter(f"run {n}" for n in range(20))
    assert {plan.state for plan in plans} == {PlanState.STOPPED}
