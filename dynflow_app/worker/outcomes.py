"""What an invocation of user code comes to: an `Outcome` for each way in which it can end."""

from __future__ import annotations

import asyncio
from typing import Any

from dynflow_app import clock
from dynflow_app.actions import registry
from dynflow_app.actions.base import BaseAction
from dynflow_app.exceptions import Abort, Cancel, DynflowError, PlanningError, StepTimeoutError, Suspend
from dynflow_app.messages import Claimed, EndedAs, Outcome
from dynflow_app.payloads.errors import as_error, describe
from dynflow_app.states import FLOW_PHASES, Alarm, Cause, StepState
from dynflow_app.worker.context import StepContext
from dynflow_app.worker.invocation import Invocation

PARKED_FOR = 5.0
"""Seconds until a step whose class this process does not know is offered to workers again."""


class ParkedError(DynflowError):
    """This process lacks the code of the step. It waits until a worker has it."""


def blank(step: Claimed, state: StepState, ended_as: EndedAs | None) -> Outcome:
    """An outcome with what is known of the step."""
    return Outcome(
        step_id=step.step_id,
        plan_id=step.plan_id,
        action_id=step.action_id,
        attempt=step.attempt,
        is_awaited=step.is_awaited,
        state=state,
        ended_as=ended_as,
        phase=step.phase,
        event_id=step.event.id if step.event else None,
        is_limited=step.is_limited,
    )


def handed_back(step: Claimed) -> Outcome:
    """The outcome of a step that was claimed and not started."""
    return blank(step, StepState.READY, None)


def succeeded(step: Claimed, context: StepContext, started: float) -> Outcome:
    """The code returned. Raises what storing its output raises."""
    outcome = timed(blank(step, StepState.SUCCESS, EndedAs.SUCCEEDED), started)
    outcome.output = context.stored_output(is_final=step.phase in FLOW_PHASES)
    outcome.input, outcome.unlocked = context.resolved_input, context.unlocked
    return outcome


def failure(step: Claimed, error: BaseException, started: float, context: StepContext | None = None) -> Outcome:
    """The code raised `error`."""
    outcome = timed(blank(step, StepState.ERROR, EndedAs.FAILED), started)
    outcome.error = describe(error, context.secrets if context else ())
    return outcome


def vanished(step: Claimed, error: BaseException, started: float, *, may_repeat: bool) -> Outcome:
    """The process of its own that ran the step ended without a word."""
    outcome = failure(step, error, started)
    outcome.ended_as = EndedAs.LOST
    outcome.state = StepState.READY if may_repeat else StepState.ERROR
    return outcome


def ended_early(
    step: Claimed,
    error: BaseException,
    started: float,
    invocation: Invocation,
    action: BaseAction | None,
    context: StepContext | None,
) -> Outcome:
    """The code did not return: it suspended itself, was told to end, or failed."""
    if isinstance(error, ParkedError):
        return _parked(step, error)
    if isinstance(error, Suspend) and action is not None and context is not None:
        return _suspended(step, error, started, action, context, invocation)
    if isinstance(error, (Cancel, Abort, asyncio.CancelledError)) and _was_to_end(error, invocation):
        return cancelled(step, invocation.how or str(error), started, context)
    if isinstance(error, (Abort, asyncio.CancelledError)) and isinstance(invocation.stop_with, StepTimeoutError):
        error = invocation.stop_with
    outcome = failure(step, error, started, context)
    if isinstance(invocation.stop_with, (Cancel, Abort)) and step.cause != Cause.CANCEL:
        outcome.state = StepState.CANCELLED  # it was told to end, and this is how it did
        return outcome
    action_class = registry.known(step.action_name)
    retry = action_class.retry if action_class is not None and step.phase in FLOW_PHASES else None
    if retry is not None and step.cause != Cause.CANCEL:
        pause = retry.pause_after(step.failures + 1, error)
        if pause is not None:
            outcome.state, outcome.alarm, outcome.alarm_in = StepState.SUSPENDED, Alarm.RETRY, pause
            outcome.cause = Cause.EVENT if step.cause == Cause.EVENT else Cause.START
    return outcome


def cancelled(step: Claimed, how: str, started: float, context: StepContext | None = None) -> Outcome:
    """The code was told to end; `how` says how it did, or did not."""
    outcome = timed(blank(step, StepState.CANCELLED, EndedAs.CANCELLED), started)
    message = f"Cancelled: {how or 'it ended when it was asked to'}."
    outcome.error = as_error("Cancelled", message)
    if context is not None:
        try:
            outcome.output = context.stored_output(is_final=False)
        except DynflowError as refusal:  # what it left cannot be stored; it is cancelled all the same
            outcome.error["message"] += f" Its output was not kept: {refusal}"
    return outcome


def _was_to_end(error: BaseException, invocation: Invocation) -> bool:
    return isinstance(error, Cancel) or isinstance(invocation.stop_with, (Cancel, Abort))


def _parked(step: Claimed, error: ParkedError) -> Outcome:
    outcome = blank(step, StepState.SUSPENDED, None)
    outcome.alarm, outcome.alarm_in, outcome.cause = Alarm.PARKED, PARKED_FOR, step.cause
    outcome.error = as_error("CodeMissing", str(error))
    return outcome


def _suspended(
    step: Claimed, wish: Suspend, started: float, action: BaseAction, context: StepContext, invocation: Invocation
) -> Outcome:
    if step.phase not in FLOW_PHASES:
        return failure(step, PlanningError("suspend() belongs into run() and revert() only."), started, context)
    try:
        progress: Any = getattr(action, "run_progress", None)
        if callable(progress):
            action.progress(float(progress()), 1.0)
        output = context.stored_output(is_final=False)
    except Exception as error:
        return failure(step, error, started, context)
    # A look that changed nothing worth keeping leaves no attempt: a poll every second for a week would leave 600,000.
    is_look = step.cause == Cause.WAKE and (wish.wake_after is not None or wish.wakes_below is not None)
    outcome = timed(blank(step, StepState.SUSPENDED, None if is_look else EndedAs.SUSPENDED), started)
    outcome.output, outcome.input = output, context.resolved_input
    outcome.sent, outcome.progress, outcome.wakes_below = context.sent, context.progress, wish.wakes_below
    outcome.unlocked = context.unlocked
    remaining = None if invocation.deadline is None else invocation.deadline - outcome.ended
    if remaining is None and step.remaining is not None and step.remaining > outcome.seconds:
        remaining = step.remaining - outcome.seconds  # on_timeout() or cancel() was called before its time was over
    outcome.deadline_in = remaining
    alarms = [(wish.wake_after, Alarm.WAKE), (wish.timeout, Alarm.TIMEOUT), (remaining, Alarm.TIMEOUT)]
    due = [(after, alarm) for after, alarm in alarms if after is not None]
    if due:
        outcome.alarm_in, outcome.alarm = min(due, key=lambda each: each[0])
    return outcome


def timed(outcome: Outcome, started: float) -> Outcome:
    """`outcome`, with the time that user code took until now."""
    outcome.ended = clock.monotonic()
    outcome.seconds = outcome.ended - started
    return outcome
