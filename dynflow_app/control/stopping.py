"""Cancel, abort and halt: end what has not ended."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from dynflow_app.control.common import as_singleton, fresh, lock, lock_by_key, note
from dynflow_app.exceptions import WrongStateError
from dynflow_app.ledger import stopping
from dynflow_app.ledger.concluding import conclude, ring_after_commit
from dynflow_app.ledger.effects import Effects
from dynflow_app.models import ExecutionPlan, Step
from dynflow_app.models.base import ledger_alias
from dynflow_app.states import (
    ACTIVE_STEP_STATES,
    ASIDE_PHASES,
    BEGUN_PLAN_STATES,
    LIVE_PLAN_STATES,
    StepState,
    StopRequest,
)


def cancel(target: ExecutionPlan | Step, *, by: Any = "", reason: str = "") -> None:
    """Ask a plan, or one step, to end.

    What has not begun is cancelled. A suspended step is asked by the `cancel` method of its action, in a worker;
    without one it is cancelled. A running step is asked: `check_cancelled` raises, a coroutine is cancelled, `cancel`
    is called beside it. An action may answer by succeeding. The plan stops when all have ended.
    Refreshes `target`. Raises `WrongStateError` if it has ended.
    """
    _end(target, StopRequest.CANCEL, by, reason)


def abort(target: ExecutionPlan | Step, *, by: Any = "", reason: str = "") -> None:
    """As `cancel`, without asking: suspended steps are cancelled at once, and running code is made to end as well as
    can be; the step's error says how."""
    _end(target, StopRequest.ABORT, by, reason)


def halt(plan: ExecutionPlan, *, by: Any = "", reason: str = "") -> None:
    """Stop a plan without asking anybody. Its steps stay as they are; running ones are forgotten: what they did is
    unknown, and what they report will be refused. Refreshes `plan`. Raises `WrongStateError` if it has stopped."""
    effects = Effects()
    with transaction.atomic(using=ledger_alias()):
        lock(plan, LIVE_PLAN_STATES, "halted")
        stopping.halt(plan, effects)
        note(plan, "halt", by, reason)
        ring_after_commit(conclude(effects))
    plan.refresh_from_db()


def _end(target: ExecutionPlan | Step, request: StopRequest, by: Any, reason: str) -> None:
    verb = "cancelled" if request == StopRequest.CANCEL else "aborted"
    effects = Effects()
    with transaction.atomic(using=ledger_alias()):
        if isinstance(target, Step):
            plan = lock_by_key(target.plan_id, LIVE_PLAN_STATES, "changed")
            _end_step(plan, _require_unfinished(target, verb), request, effects)
        else:
            plan = lock(target, LIVE_PLAN_STATES, verb)
            stopping.end_whole([plan], request, effects)
        note(plan, str(request), by, reason, target.number if isinstance(target, Step) else None)
        ring_after_commit(conclude(effects))
    target.refresh_from_db()


def _end_step(plan: ExecutionPlan, step: Step, request: StopRequest, effects: Effects) -> None:
    stopping.end_steps(Step.objects.filter(pk=step.pk), request, effects)
    if plan.state in BEGUN_PLAN_STATES:
        with as_singleton(plan, "changed"):
            ExecutionPlan.objects.filter(pk=plan.pk).resume()
        effects.to_decide |= stopping.without_active([plan.pk])


def _require_unfinished(step: Step, verb: str) -> Step:
    found = fresh(step)
    if found.phase in ASIDE_PHASES:
        raise WrongStateError(
            f"Step {found.number} is a {found.phase} step, which is over soon; cancel the plan instead.",
            state=found.state,
        )
    if found.state not in (StepState.PENDING, *ACTIVE_STEP_STATES - {StepState.SKIPPING}):
        raise WrongStateError(f"Step {found.number} is {found.state} and cannot be {verb}.", state=found.state)
    return found
