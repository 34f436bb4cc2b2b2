"""Verbs that make a new plan from one: revert what it did, or run it once more."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from dynflow_app.control.common import as_singleton, lock, note, ring_orchestrator_after_commit
from dynflow_app.exceptions import WrongStateError
from dynflow_app.models import ExecutionPlan, Step
from dynflow_app.models.base import ledger_alias
from dynflow_app.planning import copying
from dynflow_app.states import RESTING_PLAN_STATES, MadeAs


def revert(plan: ExecutionPlan, *, by: Any = "", reason: str = "") -> ExecutionPlan:
    """Undo what a plan did: a new plan calls `revert` of its completed steps' actions, in reverse order.

    The plan must be paused or stopped, and may be reverted once; it stays as it is. Raises `WrongStateError` otherwise,
    and if there is nothing to revert.
    """
    with transaction.atomic(using=ledger_alias()):
        locked = lock(plan, RESTING_PLAN_STATES, "reverted")
        known = ExecutionPlan.objects.filter(made_from=plan, made_as=MadeAs.REVERT).first()
        if known is not None:
            raise WrongStateError(f"Plan {plan.pk} is being, or was, reverted by plan {known.pk}.", state=locked.state)
        made = copying.reverse(locked, triggered_by=str(by)[:255])
        if made is None:
            raise WrongStateError(
                f"Plan {plan.pk} has nothing to revert: none of its completed steps has a revert().", state=locked.state
            )
        note(plan, "revert", by, reason)
        ring_orchestrator_after_commit()
    return made


def revert_preview(plan: ExecutionPlan) -> list[tuple[Step, bool]]:
    """The completed steps in the order in which `revert` would undo them, and whether each can be. Changes nothing."""
    return copying.reverse_preview(plan)


def rerun(
    plan: ExecutionPlan,
    *,
    from_step: Step | None = None,
    input: dict[str, Any] | None = None,  # noqa: A002 - what it is called everywhere
    by: Any = "",
    reason: str = "",
) -> ExecutionPlan:
    """Run a plan once more, as a new plan with the same actions; the old one stays as it is.

    With `from_step`, only that step and what comes after it run again, and whatever had not succeeded; earlier outputs
    are kept. `input` replaces that step's input, or that of the entry action. The plan must be paused or stopped.
    Raises `WrongStateError` otherwise, and `PlanningError` or `NotSerializableError` for a bad input.
    """
    with transaction.atomic(using=ledger_alias()):
        locked = lock(plan, RESTING_PLAN_STATES, "run again")
        with as_singleton(locked, "run again"):
            made = copying.rerun(locked, from_step=from_step, input=input, triggered_by=str(by)[:255])
        note(plan, "rerun", by, reason, from_step.number if from_step else None)
        ring_orchestrator_after_commit()
    return made
