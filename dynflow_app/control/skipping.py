"""Skip: give up a failed step."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from dynflow_app.control.common import fresh, lock_by_key, note
from dynflow_app.exceptions import WrongStateError
from dynflow_app.ledger import skipping
from dynflow_app.ledger.concluding import conclude, ring_after_commit
from dynflow_app.ledger.effects import Effects
from dynflow_app.models import Step
from dynflow_app.models.base import ledger_alias
from dynflow_app.states import COUNTED_PHASES, PlanState, StepState


def skip(step: Step, *, by: Any = "", reason: str = "") -> list[Step]:
    """Give up a failed step of a paused plan, with all that needs its output. The plan stays paused.

    Skipped with it: steps whose input refers to its output, and so on, and the finalize steps of all their actions.
    If the action has `on_skip`, a worker calls that first; until it returned, the step is *skipping*. Returns the steps
    that are (or will be) skipped. Raises `WrongStateError` unless the plan is paused and the step failed.
    """
    with transaction.atomic(using=ledger_alias()):
        plan = lock_by_key(step.plan_id, [PlanState.PAUSED], "changed")
        found = fresh(step)
        if found.state != StepState.ERROR or found.phase not in COUNTED_PHASES:
            step.refresh_from_db()
            raise WrongStateError(
                f"Step {found.number} is {found.state}; only a step in error can be skipped.", state=found.state
            )
        ids = [each.pk for each in skipping.skipped_with([found])]
        effects = Effects()
        skipping.begin([found], [], effects)
        note(plan, "skip", by, reason, found.number)
        ring_after_commit(conclude(effects))
    return list(Step.objects.filter(pk__in=ids).order_by("number"))


def skip_preview(step: Step) -> list[Step]:
    """The steps that `skip` would skip, `step` among them. Changes nothing."""
    return skipping.skipped_with([step])
