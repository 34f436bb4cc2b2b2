"""Resume and retry: let failed steps run again."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.db.models import F

from dynflow_app.control.common import as_singleton, fresh, lock, lock_by_key, note
from dynflow_app.exceptions import WrongStateError
from dynflow_app.ledger.concluding import conclude, ring_after_commit
from dynflow_app.ledger.effects import Effects
from dynflow_app.ledger.releasing import release_frontier
from dynflow_app.ledger.steps import make_these_ready
from dynflow_app.models import ExecutionPlan, Step, SubPlans
from dynflow_app.models.base import ledger_alias
from dynflow_app.models.step import StepQuerySet
from dynflow_app.states import COUNTED_PHASES, DEAF_ALARMS, MadeAs, PlanState, StepState


def resume(plan: ExecutionPlan, *, by: Any = "", reason: str = "") -> None:
    """Let a paused plan go on: its failed steps run again, those that succeeded never do.

    Refreshes `plan`. Raises `WrongStateError` unless it is paused, and if it was reverted.
    """
    with transaction.atomic(using=ledger_alias()):
        locked = lock(plan, [PlanState.PAUSED], "resumed")
        _require_not_undone(locked)
        _start_over(Step.objects.filter(plan=plan, phase__in=COUNTED_PHASES))
        _go_on(locked)
        note(plan, "resume", by, reason)
    plan.refresh_from_db()


def retry(step: Step, *, by: Any = "", reason: str = "") -> None:
    """Let one step run again now: a failed one of a paused plan, or one that waits for its next try.

    Other failed steps stay as they are, and the plan pauses again if there are any. Refreshes `step`. Raises
    `WrongStateError` otherwise.
    """
    with transaction.atomic(using=ledger_alias()):
        plan = lock_by_key(step.plan_id, [PlanState.PAUSED, PlanState.RUNNING], "changed")
        found = fresh(step)
        if found.state == StepState.SUSPENDED and found.alarm in DEAF_ALARMS:
            effects = Effects()
            effects.became_ready(make_these_ready([step.pk], frm=StepState.SUSPENDED), is_new=False)
            ring_after_commit(conclude(effects))
        elif found.state == StepState.ERROR and plan.state == PlanState.PAUSED and found.phase in COUNTED_PHASES:
            _require_not_undone(plan)
            _start_over(Step.objects.filter(pk=step.pk))
            _go_on(plan)
        else:
            raise WrongStateError(
                f"Step {found.number} is {found.state} in a plan that is {plan.state}; only a failed step of a paused "
                "plan, or a step that waits for its next try, can be retried.",
                state=found.state,
            )
        note(plan, "retry", by, reason, found.number)
    step.refresh_from_db()


def _require_not_undone(plan: ExecutionPlan) -> None:
    undo = ExecutionPlan.objects.filter(made_from=plan, made_as=MadeAs.REVERT).first()
    if undo is not None:
        raise WrongStateError(
            f"Plan {plan.pk} is being, or was, reverted by plan {undo.pk}; run it again with control.rerun().",
            state=plan.state,
        )


def _start_over(steps: StepQuerySet) -> None:
    """Forget what their failure decided: they get all their tries again, and so do their sub-plans."""
    for row in SubPlans.objects.filter(step__in=steps.filter(state=StepState.ERROR)).select_related("step"):
        SubPlans.objects.filter(pk=row.pk).update(round=F("round") + row.step.failures + 1)
    steps.start_over()


def _go_on(plan: ExecutionPlan) -> None:
    effects = Effects()
    with as_singleton(plan, "resumed"):
        ExecutionPlan.objects.filter(pk=plan.pk).resume(error=None)
    if not release_frontier([plan.pk], effects):
        effects.to_decide.add(plan.pk)
    ring_after_commit(conclude(effects))
