"""Steps that share a transaction with the ledger, so that their effects and their record are one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from django.db import transaction

from dynflow_app import arguments, clock, probes
from dynflow_app.exceptions import WrongStateError
from dynflow_app.ledger.claiming import outputs_for
from dynflow_app.ledger.finalizing import load_phase, record_failed_phase, record_phase
from dynflow_app.ledger.recording import Recorded, record
from dynflow_app.messages import Claimed, EndedAs, Outcome
from dynflow_app.models import ExecutionPlan
from dynflow_app.models.base import is_outage, ledger_alias
from dynflow_app.models.world import World
from dynflow_app.planning import Draft, store_planned
from dynflow_app.states import Alarm, StepState
from dynflow_app.worker.context import StepIO
from dynflow_app.worker.executor import Outputs, execute, known_class
from dynflow_app.worker.outcomes import blank, ended_early, failure, handed_back, timed
from dynflow_app.worker.stopping import Invocation


@dataclass(slots=True)
class SelfRecorded:
    """The end of what shares its transaction with the ledger: what is left to record, and what has been recorded."""

    step: Claimed
    outcomes: list[Outcome]
    recorded: Recorded


def execute_finalize(first: Claimed, world: World, invocation: Invocation, io: StepIO) -> SelfRecorded:
    """Run the finalize phase that `first` was claimed for and record it, in one transaction."""
    return _self_recording(first, lambda: _finalize(first, world, invocation, io))


def execute_atomic(step: Claimed, outputs: Outputs, world: World, invocation: Invocation, io: StepIO) -> SelfRecorded:
    """Run a step and record its success in one transaction; what it wrote goes if it does not succeed."""

    def run() -> SelfRecorded:
        outcome = None
        try:
            with transaction.atomic(using=ledger_alias()):
                outcome = execute(step, outputs, invocation, io)
                if outcome.ended_as not in (EndedAs.SUCCEEDED, EndedAs.SUSPENDED):
                    raise _RolledBackError
                recorded = record([outcome], worker=str(world))
                if recorded.refused:
                    raise WrongStateError("This step was taken from the worker that ran it; its work is rolled back.")
                return SelfRecorded(step, [], recorded)
        except _RolledBackError:
            return SelfRecorded(step, [outcome] if outcome else [], Recorded())

    return _self_recording(step, run)


def execute_planning(step: Claimed, world: World, invocation: Invocation) -> SelfRecorded:
    """Run the plan phase of a plan that was triggered before, and store what it makes, in one transaction."""

    def plan() -> SelfRecorded:
        started = clock.monotonic()
        try:
            with transaction.atomic(using=ledger_alias()):
                invocation.check()
                draft = Draft(ExecutionPlan.objects.get(pk=step.plan_id))
                args, kwargs = arguments.decode(step.input)
                draft.make(known_class(step), args, kwargs)
                store_planned(draft, step.action_id)
                outcome = timed(blank(step, StepState.SUCCESS, EndedAs.SUCCEEDED), started)
                recorded = record([outcome], worker=str(world))
                if recorded.refused:
                    raise WrongStateError("This step was taken from the worker that ran it; its work is rolled back.")
                return SelfRecorded(step, [], recorded)
        except WrongStateError:
            raise
        except BaseException as error:
            if is_outage(error):
                raise
            return SelfRecorded(step, [ended_early(step, error, started, invocation, None, None)], Recorded())

    return _self_recording(step, plan)


def _self_recording(step: Claimed, work: Callable[[], SelfRecorded]) -> SelfRecorded:
    try:
        return work()
    except WrongStateError:  # somebody took the step from us; its fate is in other hands
        return SelfRecorded(step, [], Recorded())
    except Exception as error:
        if is_outage(error):  # with the database went all that was done
            return SelfRecorded(step, [handed_back(step)], Recorded())
        # such as a constraint that is checked at the commit
        return SelfRecorded(step, [failure(step, error, clock.monotonic())], Recorded())


def _finalize(first: Claimed, world: World, invocation: Invocation, io: StepIO) -> SelfRecorded:
    outcomes: list[Outcome] = []
    try:
        with transaction.atomic(using=ledger_alias()):
            for step in load_phase(first):
                outcomes.append(execute(step, outputs_for([step]).get(step.plan_id), invocation, io))
                if outcomes[-1].state is not StepState.SUCCESS:
                    raise _RolledBackError
            probes.reached(probes.Probe.FINALIZE_RETURNED)
            return SelfRecorded(first, [], record_phase(outcomes, world_id=world.pk, worker=str(world)))
    except _RolledBackError:
        started, ended = outcomes[0], outcomes[-1]
        if ended.alarm == Alarm.PARKED or ended.state is StepState.CANCELLED:  # the phase waits, or ends, as one
            started.state, started.alarm, started.alarm_in = ended.state, ended.alarm, ended.alarm_in
            started.ended_as, started.error, started.output = ended.ended_as, ended.error, None
            return SelfRecorded(first, [started], Recorded())
        with transaction.atomic(using=ledger_alias()):
            recorded = record_failed_phase(started, ended, world_id=world.pk, worker=str(world))
        return SelfRecorded(first, [], recorded)


class _RolledBackError(Exception):
    """Rolls the transaction back that user code and the ledger share."""
