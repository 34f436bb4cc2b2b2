"""The pipeline for one step: find its class, resolve its input, run user code, check what it produced.

User code may raise anything, leave a broken transaction behind, or produce what cannot be stored; all of it becomes an
outcome. Only the finalize phase shares a transaction with the ledger, so that its effects and its record are one.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from django.db import transaction

from dynflow_app import clock, probes
from dynflow_app.actions import registry
from dynflow_app.actions.base import BaseAction, bind
from dynflow_app.actions.context import refuse_unfinished
from dynflow_app.conf import settings
from dynflow_app.exceptions import WrongStateError
from dynflow_app.ledger.claiming import outputs_for
from dynflow_app.ledger.errors import describe
from dynflow_app.ledger.finalizing import load_phase, record_failed_phase, record_phase
from dynflow_app.ledger.recording import Recorded
from dynflow_app.messages import Claimed, EndedAs, Outcome
from dynflow_app.models import Action
from dynflow_app.models.base import is_outage, ledger_alias
from dynflow_app.models.world import World
from dynflow_app.serialization import check_json, resolve
from dynflow_app.states import Phase, StepState
from dynflow_app.worker.context import StepContext

Log = Callable[[Claimed, str], None]


@dataclass(slots=True)
class FinalizeEnded:
    """The end of a finalize phase: what is left to record, and what has been recorded."""

    step: Claimed
    outcomes: list[Outcome]
    recorded: Recorded


def is_async(step: Claimed) -> bool:
    """Whether the step's ``run`` is a coroutine function; an unknown class fails in a thread, where it is reported."""
    action_class = registry.known(step.action_name)
    return (
        action_class is not None
        and step.phase == Phase.RUN
        and inspect.iscoroutinefunction(getattr(action_class, "run", None))
    )


def execute(step: Claimed, outputs: dict[int, Any] | None, log: Log) -> Outcome:
    """Run a blocking step to its end."""
    started = clock.monotonic()
    try:
        context, action = _prepare(step, outputs, log)
        returned = _method(type(action), step)(action)
        refuse_unfinished(returned, f"{step.phase}() of {step.action_name}")
        return _succeeded(step, context, started)
    except BaseException as error:  # SystemExit and KeyboardInterrupt of user code must not end the worker
        return failure(step, error, started)


async def execute_async(step: Claimed, outputs: dict[int, Any] | None, log: Log) -> Outcome:
    """Run a step whose ``run`` is a coroutine function."""
    started = clock.monotonic()
    try:
        context, action = _prepare(step, outputs, log)
        await _method(type(action), step)(action)
        return _succeeded(step, context, started)
    except BaseException as error:
        return failure(step, error, started)


def execute_finalize(first: Claimed, world: World, log: Log) -> FinalizeEnded:
    """Run the finalize phase that `first` was claimed for and record it, in one transaction."""
    try:
        return FinalizeEnded(first, [], _finalize(first, world, log))
    except WrongStateError:  # somebody took the phase from us; its fate is in other hands
        return FinalizeEnded(first, [], Recorded())
    except Exception as error:
        if is_outage(error):  # with the database went all that the phase did
            return FinalizeEnded(first, [handed_back(first)], Recorded())
        # such as a constraint that is checked at the commit
        return FinalizeEnded(first, [failure(first, error, clock.monotonic())], Recorded())


def _finalize(first: Claimed, world: World, log: Log) -> Recorded:
    outcomes: list[Outcome] = []
    try:
        with transaction.atomic(using=ledger_alias()):
            for step in load_phase(first):
                outcomes.append(execute(step, outputs_for([step]).get(step.plan_id), log))
                if outcomes[-1].state is StepState.ERROR:
                    raise _PhaseFailedError
            probes.reached(probes.Probe.FINALIZE_RETURNED)
            return record_phase(outcomes, world_id=world.pk, worker=str(world))
    except _PhaseFailedError:
        with transaction.atomic(using=ledger_alias()):
            return record_failed_phase(outcomes[0], outcomes[-1], world_id=world.pk, worker=str(world))


def handed_back(step: Claimed) -> Outcome:
    """The outcome of a step that was claimed and not started."""
    return _outcome(step, StepState.READY, None)


def failure(step: Claimed, error: BaseException, started: float) -> Outcome:
    """The outcome of a step whose code raised `error`."""
    outcome = _outcome(step, StepState.ERROR, EndedAs.FAILED)
    outcome.ended = clock.monotonic()
    outcome.seconds = outcome.ended - started
    outcome.error = describe(error)
    return outcome


class _PhaseFailedError(Exception):
    """Rolls the finalize phase back."""


def _prepare(step: Claimed, outputs: dict[int, Any] | None, log: Log) -> tuple[StepContext, BaseAction]:
    action_class = registry.find(step.action_name)
    given = resolve(step.input, outputs or {}) if step.consumes else step.input
    context = StepContext(step, given, log)
    if step.phase == Phase.FINALIZE:  # it goes on with what run() left
        context.output = Action.objects.values_list("output", flat=True).get(pk=step.action_id)
    return context, bind(action_class, step.action_number, context)


def _method(action_class: type[BaseAction], step: Claimed) -> Callable[..., Awaitable[Any]]:
    method: Callable[..., Awaitable[Any]] = getattr(action_class, step.phase)
    return method


def _succeeded(step: Claimed, context: StepContext, started: float) -> Outcome:
    ended = clock.monotonic()
    probes.reached(probes.Probe.USER_CODE_RETURNED)
    check_json(context.output, f"{step.action_name.rpartition('.')[2]}.output", settings.PAYLOAD_LIMIT)
    outcome = _outcome(step, StepState.SUCCESS, EndedAs.SUCCEEDED)
    outcome.ended, outcome.seconds = ended, ended - started
    if context.output or step.phase == Phase.FINALIZE:  # which may have emptied what run() left
        outcome.output = json.dumps(context.output)
    outcome.input = context.resolved_input
    return outcome


def _outcome(step: Claimed, state: StepState, ended_as: EndedAs | None) -> Outcome:
    return Outcome(
        step_id=step.step_id,
        plan_id=step.plan_id,
        action_id=step.action_id,
        attempt=step.attempt,
        is_awaited=step.is_awaited,
        state=state,
        ended_as=ended_as,
    )
