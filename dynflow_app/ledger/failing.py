"""Fail fast: once a step of such a plan has failed, none starts any more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from uuid import UUID

from dynflow_app.models import Step
from dynflow_app.states import COUNTED_PHASES, FLOW_PHASES, Cause, StepState


def failing_fast(plan_ids: Collection[UUID]) -> tuple[set[UUID], Counter[UUID], set[str]]:
    """Take the ready steps of those of these locked plans back that have a failed step.

    Returns these plans, how many steps were taken back from each (they may start again after a resume), and the keys of
    limits that these steps do not occupy any more.
    """
    failed = Step.objects.filter(plan_id__in=plan_ids, state=StepState.ERROR, phase__in=COUNTED_PHASES)
    failing = set(failed.values_list("plan_id", flat=True))
    withdrawn: Counter[UUID] = Counter()
    freed: set[str] = set()
    for plan_id in failing:
        ready = Step.objects.filter(plan_id=plan_id, phase__in=FLOW_PHASES).exclude(cause=Cause.CANCEL)
        keys = ready.filter(state=StepState.READY, limit_key__isnull=False).values_list("limit_key", flat=True)
        freed.update(key for key in keys if key is not None)
        withdrawn[plan_id] = ready.transition([StepState.READY], StepState.PENDING, **NOT_READY)
    return failing, withdrawn, freed


NOT_READY = {"ready_at": None, "is_held": False, "alarm": "", "alarm_at": None}
"""What goes when a step is not ready any more."""
