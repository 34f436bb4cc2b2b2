"""`start_timeout` counts from *ready* to the claim, whatever made the step ready, as the page about time promises."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import transaction

from dynflow_app import BaseAction, Event, Retry, control, triggering
from dynflow_app.actions.context import PlannedAction
from dynflow_app.ledger.claiming import claim
from dynflow_app.ledger.recording import record
from dynflow_app.ledger.recovery import reclaim
from dynflow_app.messages import Claimed
from dynflow_app.models import ExecutionPlan, Step
from dynflow_app.signals import step_failed
from dynflow_app.worker.outcomes import handed_back
from tests.engine import Engine, outcome
from tests.testapp.actions import RecordFirst
from tests.testapp.journal import Journal

pytestmark = pytest.mark.django_db(transaction=True)

PATIENCE = 30
"""Seconds that these steps wait for a worker."""


class Patient(BaseAction):
    """Waits for a worker for a while only, in a queue that a test can leave alone."""

    queue = "second"
    idempotent = True
    start_timeout = timedelta(seconds=PATIENCE)

    def run(self, event: Event | None = None) -> None:
        if event is None:
            Journal().do("run patient")


class PatientAgain(Patient):
    """Is tried twice."""

    retry = Retry(attempts=2, delay=5, jitter=0)


class PatientAsleep(Patient):
    """Waits for an event, or looks again after a minute."""

    def run(self, event: Event | None = None) -> None:
        if event is None and not self.output:
            self.output["slept"] = True
            self.suspend(wake_after=60)


class PatientAfterOther(BaseAction):
    """A patient step after another one."""

    def plan(self, action: type[BaseAction] = Patient) -> None:
        with self.sequence():
            self.plan_action(RecordFirst, name="first")
            self.last: PlannedAction = self.plan_action(action, name="second")


def patient(plan: ExecutionPlan) -> Step:
    """The step with the limit."""
    return Step.objects.get(plan=plan, start_timeout__isnull=False)


def take(engine: Engine) -> Claimed:
    """Claim the step, and do not start it."""
    with transaction.atomic():
        (claimed,) = claim(engine.world.pk, ["second"], 5, worker="w")
    return claimed


def started(engine: Engine, action: type[BaseAction] = Patient) -> ExecutionPlan:
    """A plan of one such step, which waits for a worker."""
    plan = triggering.trigger(action)
    engine.decide()
    return plan


def released(engine: Engine) -> ExecutionPlan:
    """Ready since the step before it has ended."""
    plan = triggering.trigger(PatientAfterOther)
    engine.work("first")
    return plan


def tried_again(engine: Engine) -> ExecutionPlan:
    """Ready since its first try failed, and the pause is over."""
    Journal().break_("run patient")
    plan = started(engine, PatientAgain)
    engine.work("second")
    assert patient(plan).alarm == "retry"
    Journal().repair("run patient")
    engine.pass_time(6)
    engine.decide()
    return plan


def given_back(engine: Engine) -> ExecutionPlan:
    """Ready since the worker that had claimed it handed it back."""
    plan = started(engine)
    with transaction.atomic():
        record([handed_back(take(engine))], worker="w")
    return plan


def lost(engine: Engine) -> ExecutionPlan:
    """Ready since the process that had claimed it is gone; the action may be repeated."""
    plan = started(engine)
    take(engine)
    with transaction.atomic():
        reclaim(engine.world.pk, worker="w")
    return plan


def told(engine: Engine) -> ExecutionPlan:
    """Ready since an event came."""
    plan = started(engine, PatientAsleep)
    engine.work("second")
    control.send_event(patient(plan), "go")
    return plan


def woken(engine: Engine) -> ExecutionPlan:
    """Ready since it is time for its next look."""
    plan = started(engine, PatientAsleep)
    engine.work("second")
    engine.pass_time(61)
    engine.decide()
    return plan


def resumed(engine: Engine) -> ExecutionPlan:
    """Ready since it failed, and a person resumed the plan."""
    Journal().break_("run patient")
    plan = started(engine)
    engine.work("second")
    engine.decide()
    assert outcome(plan) == "paused/error"
    Journal().repair("run patient")
    control.resume(plan)
    engine.decide()
    return plan


def late_and_resumed(engine: Engine) -> ExecutionPlan:
    """Ready since nobody claimed it in time, and a person resumed the plan."""
    plan = started(engine)
    engine.pass_time(PATIENCE + 1)
    engine.decide()
    control.resume(plan)
    engine.decide()
    return plan


WAYS = [started, released, tried_again, given_back, lost, told, woken, resumed, late_and_resumed]
every_way = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)


@every_way
def test_the_time_runs_however_the_step_became_ready(
    engine: Engine, journal: Journal, way: Callable[[Engine], ExecutionPlan]
) -> None:
    # given a step that became ready this way
    plan = way(engine)

    # then it has all of its time from now on
    step = patient(plan)
    assert (step.state, step.alarm) == ("ready", "start")
    assert step.ready_at is not None
    assert step.alarm_at is not None
    waits = (step.alarm_at - step.ready_at).total_seconds()
    if way is given_back or way is lost:  # its turn is the old one, its time is new
        assert waits >= PATIENCE
    else:
        assert waits == pytest.approx(PATIENCE, abs=0.1)

    # when nobody claims it, then it fails when that is over, and not before
    engine.pass_time(PATIENCE - 15)
    engine.decide()
    assert patient(plan).state == "ready"
    engine.pass_time(16)
    engine.decide()
    step = patient(plan)
    assert (step.state, step.error["class"] if step.error else None) == ("error", "StartTimeout")
    assert (step.alarm, step.alarm_at) == ("", None)
    assert outcome(plan) == "paused/error"


@every_way
def test_the_claim_ends_the_time(engine: Engine, journal: Journal, way: Callable[[Engine], ExecutionPlan]) -> None:
    # given such a step
    plan = way(engine)

    # when a worker claims it, then no time runs any more
    claimed = take(engine)
    step = patient(plan)
    assert (step.state, step.alarm, step.alarm_at) == ("running", "", None)
    engine.pass_time(PATIENCE * 2)
    engine.decide()
    assert patient(plan).state == "running"

    # and it may end as late as it likes
    with transaction.atomic():
        record([handed_back(claimed)], worker="w")
    engine.run(plan)
    while outcome(plan) == "running/pending":  # it sleeps
        engine.pass_time(61)
        engine.run(plan)
    assert outcome(plan) == "stopped/success"


def test_whoever_is_told_to_end_meanwhile_has_no_time_left(engine: Engine, journal: Journal) -> None:
    # given a step that waits for a worker
    plan = started(engine)

    # when the plan is cancelled, then nothing goes off any more
    control.cancel(plan)
    engine.pass_time(PATIENCE * 2)
    engine.run(plan)
    assert outcome(plan) == "stopped/cancelled"
    assert patient(plan).state == "cancelled"


def test_a_step_without_it_waits_for_ever(engine: Engine, journal: Journal) -> None:
    plan = triggering.trigger(RecordFirst, name="a")
    engine.pass_time(10**6)
    engine.decide()
    step = plan.steps.get()
    assert (step.state, step.alarm, step.alarm_at) == ("ready", "", None)


def test_whoever_listens_hears_of_it(engine: Engine, journal: Journal) -> None:
    # given somebody who listens, and a step that nobody claims in time
    heard: list[str] = []

    def hear(**facts: object) -> None:
        heard.append(str(facts["message"]))

    step_failed.connect(hear)
    plan = triggering.trigger(Patient)
    engine.decide()

    # when its time is over
    engine.pass_time(PATIENCE + 1)
    engine.decide()
    step_failed.disconnect(hear)

    # then that is said like any other failure
    assert outcome(plan) == "paused/error"
    assert len(heard) == 1
    assert "No worker claimed this step" in heard[0]
