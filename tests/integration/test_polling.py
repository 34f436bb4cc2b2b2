"""Polling: a step looks at something outside until it is done, and holds no thread between two looks."""

from __future__ import annotations

import pytest

from dynflow_app import clock, control
from dynflow_app.actions.polling import PollingAction
from dynflow_app.models import ExecutionPlan, Step, Ticket
from dynflow_app.states import Alarm, PlanState, StepState
from dynflow_app.triggering import trigger
from tests.engine import Engine, outcome
from tests.testapp.journal import Journal
from tests.testapp.polling import Grow, Stuck

pytestmark = pytest.mark.django_db(transaction=True)
LONGEST = max(Grow.poll_intervals)


def started(engine: Engine, action_class: type[PollingAction]) -> ExecutionPlan:
    """A plan whose action has invoked its task."""
    plan = trigger(action_class)
    engine.run(plan)
    return plan


def polled(engine: Engine, plan: ExecutionPlan, times: int = 1, every: float = LONGEST) -> Step:
    """Let the time of so many polls come, one after the other; returns the step."""
    for _ in range(times):
        engine.pass_time(every)
        engine.run(plan)
    return Step.objects.select_related("action").get(plan=plan)


def test_it_is_suspended_through_nine_polls_and_succeeds_at_the_tenth(engine: Engine, journal: Journal) -> None:
    # given a task that is 10 % further at each poll
    plan = started(engine, Grow)

    # when it is polled, it waits, longer after every five polls
    for n in range(10):
        step = Step.objects.get(plan=plan)
        assert (step.state, step.alarm) == (StepState.SUSPENDED, Alarm.WAKE)
        assert not Ticket.objects.exists(), "no worker has it, and it waits for none"
        assert step.progress == pytest.approx(n / 10)
        assert step.alarm_at is not None
        interval = 10 if n < 5 else 20
        assert interval - 5 < (step.alarm_at - clock.now()).total_seconds() <= interval + 1
        polled(engine, plan)

    # then it has succeeded, and no timer is left
    assert outcome(plan) == "stopped/success"
    step = Step.objects.select_related("action").get(plan=plan)
    assert (step.state, step.alarm_at) == (StepState.SUCCESS, None)
    assert step.action.output["task"] == {"name": "t1", "percent": 100}
    assert journal.lines == ["invoke t1"] + ["poll t1"] * 10


def test_nothing_is_polled_before_its_time(engine: Engine, journal: Journal) -> None:
    plan = started(engine, Grow)

    polled(engine, plan, every=5)

    assert journal.lines == ["invoke t1"]
    assert outcome(plan) == "running/pending"


def test_the_third_failed_poll_in_a_row_fails_the_step(engine: Engine, journal: Journal) -> None:
    # given a task that does not answer
    plan = started(engine, Grow)
    journal.break_("poll t1")

    # when it is polled, two failures are tolerated
    assert polled(engine, plan, times=2).state == StepState.SUSPENDED

    # then the third is the step's
    step = polled(engine, plan)
    assert (step.state, step.alarm_at) == (StepState.ERROR, None)
    assert step.error is not None
    assert step.error["message"] == "poll t1 is broken"
    assert outcome(plan) == f"{PlanState.PAUSED}/error"


def test_resumed_it_polls_the_old_task_first(engine: Engine, journal: Journal) -> None:
    # given a step that failed because its task did not answer, and a task that answers again
    plan = started(engine, Grow)
    journal.break_("poll t1")
    polled(engine, plan, times=3)
    journal.repair("poll t1")

    # when the plan is resumed
    control.resume(plan)
    engine.run(plan)

    # then the old task is polled to its end, and nothing else is started
    polled(engine, plan, times=9)
    assert outcome(plan) == "stopped/success"
    assert journal.lines == ["invoke t1"] + ["poll t1"] * 13


def test_resumed_it_invokes_anew_only_if_the_old_task_does_not_answer(engine: Engine, journal: Journal) -> None:
    # given a step that failed because its task did not answer
    plan = started(engine, Grow)
    journal.break_("poll t1")
    polled(engine, plan, times=3)

    # when the plan is resumed, and there is still no answer
    control.resume(plan)
    engine.run(plan)

    # then there is a fresh task, which is polled to its end
    polled(engine, plan, times=10)
    assert outcome(plan) == "stopped/success"
    assert journal.lines == ["invoke t1"] + ["poll t1"] * 4 + ["invoke t2"] + ["poll t2"] * 10


def test_after_two_polls_without_progress_the_time_is_over(engine: Engine, journal: Journal) -> None:
    # given 5 s for a task that gets nowhere, and a poll every 2 s
    plan = started(engine, Stuck)

    # when they have passed
    assert polled(engine, plan, times=2, every=2).state == StepState.SUSPENDED
    step = polled(engine, plan, every=1.5)

    # then it was polled twice, and has failed
    assert journal.lines == ["invoke t1", "poll t1", "poll t1"]
    assert (step.state, step.alarm_at, step.deadline_at) == (StepState.ERROR, None, None)
    assert step.error is not None
    assert step.error["class"] == "dynflow_app.exceptions.StepTimeoutError"
    assert outcome(plan) == "paused/error"


def test_an_action_that_lacks_a_method_fails_when_it_is_planned() -> None:
    with pytest.raises(TypeError, match="abstract methods"):
        trigger(PollingAction)  # the mistake

    assert outcome(ExecutionPlan.objects.get()) == "stopped/error"
