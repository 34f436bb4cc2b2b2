"""The pipeline for one step: find its class, resolve its input, run user code, check what it produced.

User code may raise anything, leave a broken transaction behind, or produce what cannot be stored; all of it becomes an
outcome.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from dynflow_app import clock, probes
from dynflow_app.actions import registry
from dynflow_app.actions.base import BaseAction, bind
from dynflow_app.actions.context import refuse_unfinished
from dynflow_app.actions.middleware import Hook, chain, entered
from dynflow_app.exceptions import Cancel
from dynflow_app.messages import Claimed, EndedAs, Outcome
from dynflow_app.models import Step
from dynflow_app.states import FLOW_PHASES, Cause, Phase, StepState
from dynflow_app.worker import asides
from dynflow_app.worker.context import StepContext, StepIO
from dynflow_app.worker.invocation import Invocation
from dynflow_app.worker.outage import outlasting
from dynflow_app.worker.outcomes import ParkedError, blank, ended_early, succeeded, timed

Outputs = dict[int, Any] | None


def is_async(step: Claimed) -> bool:
    """Whether the step's code is a coroutine function; an unknown class is parked by a thread."""
    action_class = registry.known(step.action_name)
    if action_class is None or step.phase not in (Phase.RUN, Phase.REVERT):
        return False
    name = _METHODS.get(step.cause, step.phase)
    return inspect.iscoroutinefunction(getattr(action_class, name, None)) and not action_class.isolated


def execute(step: Claimed, outputs: Outputs, invocation: Invocation, io: StepIO) -> Outcome:
    """Run a blocking step to its end."""
    started = clock.monotonic()
    context = action = None
    try:
        invocation.check()
        if step.phase == Phase.RESCUE:
            return _rescued(step, invocation, io, started)
        context, action = _prepare(step, outputs, invocation, io)
        call = _call(step, action, invocation, io)
        with invocation.in_thread(), _middleware(step, action):
            returned = call()
            if inspect.iscoroutine(returned) and type(action).isolated:
                asyncio.run(returned)
            else:
                refuse_unfinished(returned, f"{step.phase}() of {step.action_name}")
        probes.reached(probes.Probe.USER_CODE_RETURNED)
        return succeeded(step, context, started)
    except BaseException as error:  # SystemExit and KeyboardInterrupt of user code must not end the worker
        return ended_early(step, error, started, invocation, action, context)
    finally:
        if context is not None:
            context.end_log()


async def execute_async(step: Claimed, outputs: Outputs, invocation: Invocation, io: StepIO) -> Outcome:
    """Run a step whose code is a coroutine function."""
    started = clock.monotonic()
    context = action = None
    try:
        invocation.check()
        context, action = _prepare(step, outputs, invocation, io)
        call = _call(step, action, invocation, io)
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - for mypy; a coroutine runs in a task
        with invocation.in_task(asyncio.get_running_loop(), task), _middleware(step, action):
            await call()
        probes.reached(probes.Probe.USER_CODE_RETURNED)
        return succeeded(step, context, started)
    except BaseException as error:
        return ended_early(step, error, started, invocation, action, context)
    finally:
        if context is not None:
            context.end_log()


def _rescued(step: Claimed, invocation: Invocation, io: StepIO, started: float) -> Outcome:
    decision, error = asides.rescue(step, invocation, io)
    outcome = timed(blank(step, StepState.SUCCESS, EndedAs.SUCCEEDED), started)
    outcome.rescue, outcome.error = decision, error
    return outcome


def _prepare(step: Claimed, outputs: Outputs, invocation: Invocation, io: StepIO) -> tuple[StepContext, BaseAction]:
    action_class = known_class(step)
    if step.phase in (Phase.RUN, Phase.FINALIZE, Phase.REVERT) and not action_class.has_phase(step.phase):
        raise ParkedError(
            f"{step.action_name} has no {step.phase}() any more, but this step was planned for it. Deploy a version "
            "that has it, or cancel the plan."
        )
    set_deadline(invocation)
    context = StepContext(action_class, step, outputs, invocation, io)
    if step.phase == Phase.SKIP:
        failed = Step.objects.filter(action_id=step.action_id, state=StepState.SKIPPING).values_list("error", flat=True)
        context.error = outlasting(failed.first, invocation.check)
    return context, bind(action_class, step.action_number, context)


def known_class(step: Claimed) -> type[BaseAction]:
    """The class of the step. Raises `ParkedError` if this process does not know it."""
    action_class = registry.known(step.action_name)
    if action_class is None:
        raise ParkedError(
            f"This worker knows no action {step.action_name!r}. Define it in the 'actions' module of an installed app "
            "and restart the workers; the step goes on by itself as soon as one knows it."
        )
    return action_class


def _call(  # noqa: PLR0911 - one line for each kind
    step: Claimed, action: BaseAction, invocation: Invocation, io: StepIO
) -> Callable[[], Any]:
    """The user code that this invocation is about."""
    user: Any = action  # its methods are whatever users define
    if step.phase == Phase.HOOK:
        return lambda: asides.call_hooks(step, invocation, io)
    if step.phase == Phase.SKIP:
        return user.on_skip if action.has_phase("on_skip") else lambda: None
    if step.phase not in FLOW_PHASES:
        call: Callable[[], Any] = getattr(user, step.phase)
        return call
    if step.cause == Cause.TIMEOUT:
        return action.on_timeout
    if step.cause == Cause.CANCEL:
        return user.cancel if action.has_phase("cancel") else _cancelled
    if step.phase == Phase.REVERT:
        revert: Callable[[], Any] = user.revert
        return revert
    if action.has_phase("cancel") and not inspect.iscoroutinefunction(user.cancel):
        invocation.on_ask(user.cancel, lambda text: io.log(step, text + "\n"))
    if step.cause == Cause.EVENT and step.event is not None:
        return lambda: user.run(step.event)
    run: Callable[[], Any] = user.run
    return run


def _cancelled() -> None:
    raise Cancel("it was waiting, and nobody had to be asked")


def _middleware(step: Claimed, action: BaseAction) -> AbstractContextManager[Any]:
    """What surrounds this invocation."""
    hook: Hook | None = _HOOKS.get(step.phase)
    middleware = chain(type(action)) if hook is not None else ()
    if hook is None or not middleware:
        return _NOTHING
    return entered(middleware, "cancel" if step.cause == Cause.CANCEL else hook, action)


def set_deadline(invocation: Invocation) -> None:
    """Let the time of a step begin to run, or run on."""
    step = invocation.step
    action_class = registry.known(step.action_name)
    if action_class is None or action_class.timeout is None or step.phase not in (Phase.RUN, Phase.REVERT):
        return
    remaining = action_class.timeout.total_seconds() if step.remaining is None else step.remaining
    if step.cause not in (Cause.TIMEOUT, Cause.CANCEL):  # what ends a step is not hurried by the time it exceeded
        invocation.deadline = clock.monotonic() + max(remaining, 0.0)


_NOTHING: AbstractContextManager[Any] = nullcontext()
_HOOKS: dict[str, Hook] = {Phase.RUN: "run", Phase.REVERT: "revert", Phase.FINALIZE: "finalize"}
_METHODS = {Cause.TIMEOUT: "on_timeout", Cause.CANCEL: "cancel"}
