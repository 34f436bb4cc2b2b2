"""Fail fast: once a step of such a plan has failed, none starts any more."""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from dynflow_app.ledger.effects import Effects
from dynflow_app.ledger.steps import take_back
from dynflow_app.models import Step
from dynflow_app.states import FLOW_PHASES, Cause, StepState


def failing_fast(plan_ids: Collection[UUID], effects: Effects) -> set[UUID]:
    """Take the ready steps of those of these locked plans back that have a failed step; they may start again after a
    resume. Returns these plans."""
    failing = set(Step.objects.filter(plan_id__in=plan_ids).in_error().values_list("plan_id", flat=True))
    if failing:
        ready = Step.objects.filter(plan_id__in=failing, phase__in=FLOW_PHASES, state=StepState.READY)
        ready = ready.exclude(cause=Cause.CANCEL)
        limited = ready.filter(limit_key__isnull=False).values_list("limit_key", flat=True)
        effects.limits.update(key for key in limited if key is not None)
        effects.ended(take_back(ready))
    return failing
