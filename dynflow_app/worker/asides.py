"""User code about a plan: what rescues it, and its hooks. Called like steps, by workers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dynflow_app.actions import registry
from dynflow_app.actions.base import BaseAction, bind
from dynflow_app.actions.context import refuse_unfinished
from dynflow_app.engine.rescue import combine
from dynflow_app.messages import Claimed
from dynflow_app.models import Action, ExecutionPlan, Step
from dynflow_app.payloads.errors import describe
from dynflow_app.states import COUNTED_PHASES, Cause, PlanResult, Rescue, StepState
from dynflow_app.worker.context import StepContext, StepIO
from dynflow_app.worker.invocation import Invocation
from dynflow_app.worker.outage import outlasting
from dynflow_app.worker.outcomes import ParkedError


class HookFailedError(Exception):
    """One or more hooks of the plan raised; the others were called all the same."""


def rescue(step: Claimed, invocation: Invocation, io: StepIO) -> tuple[Rescue, dict[str, Any] | None]:
    """What becomes of the plan, and the error if the code that decides raised: then a person has to decide."""
    undecided = Step.objects.filter(
        plan_id=step.plan_id, state=StepState.ERROR, rescue=Rescue.UNDECIDED, phase__in=COUNTED_PHASES
    )
    failed = outlasting(lambda: list(undecided.select_related("action").order_by("number")), invocation.check)
    try:
        suggestions = [_suggestion(one, step, invocation, io) for one in failed]
        entry = _bound(step.action_name, step.action_number, step, invocation, io)
        combined = entry.combine_rescue(suggestions) if suggestions else combine(suggestions)
        return Rescue(combined) or Rescue.PAUSE, None
    except ParkedError:
        raise
    except Exception as error:
        return Rescue.PAUSE, describe(error)


def call_hooks(step: Claimed, invocation: Invocation, io: StepIO) -> None:
    """Call the hooks of all actions of the plan, in planning order. Raises `HookFailedError` at the end."""
    plan = outlasting(lambda: ExecutionPlan.objects.get(pk=step.plan_id), invocation.check)
    failures = []
    for action, name in _hooks(plan, step, invocation, io):
        try:
            refuse_unfinished(getattr(action, name)(), f"{name}() of {type(action).__name__}")
        except Exception as error:
            failures.append(f"{type(action).__name__}.{name}(): {type(error).__name__}: {error}")
    if failures:
        raise HookFailedError("; ".join(failures))


def _suggestion(failed: Step, step: Claimed, invocation: Invocation, io: StepIO) -> Rescue:
    action = _bound(failed.action.name, failed.action.number, step, invocation, io, failed.action, failed.error)
    strategy = action.rescue_strategy
    return Rescue(strategy() if callable(strategy) else strategy) or Rescue.PAUSE


def _hooks(plan: ExecutionPlan, step: Claimed, invocation: Invocation, io: StepIO) -> Iterator[tuple[BaseAction, str]]:
    if step.cause == Cause.PAUSED:
        names: tuple[str, ...] = ("on_paused",)
    else:
        went_well = plan.result in (PlanResult.SUCCESS, PlanResult.WARNING)
        names = ("on_success" if went_well else "on_failure", "on_stopped")
    hooked = Action.objects.filter(plan=plan, number__in=plan.hooks).order_by("number")
    for row in outlasting(lambda: list(hooked), invocation.check):
        action = _bound(row.name, row.number, step, invocation, io, row)
        yield from ((action, name) for name in names if name in type(action).hooks())


def _bound(
    name: str,
    number: int,
    step: Claimed,
    invocation: Invocation,
    io: StepIO,
    row: Action | None = None,
    error: dict[str, Any] | None = None,
) -> BaseAction:
    action_class = registry.known(name)
    if action_class is None:
        raise ParkedError(f"No class {name} here, which has to decide what becomes of the plan. Deploy it again.")
    seen = step if row is None else _as_seen_by(step, row)
    context = StepContext(action_class, seen, None, invocation, io)
    context.error = error
    return bind(action_class, number, context)


def _as_seen_by(step: Claimed, row: Action) -> Claimed:
    return Claimed(
        step_id=step.step_id, plan_id=step.plan_id, number=step.number, attempt=step.attempt, phase=step.phase,
        is_awaited=False, action_id=row.pk, action_number=row.number, action_name=row.name, input=row.input,
        output=row.output, consumes=[], queue=step.queue,
    )  # fmt: skip
