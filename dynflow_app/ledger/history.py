"""History: who did what to a plan, and why."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any
from uuid import UUID

from django.db.models import F

from dynflow_app.models import ExecutionPlan, HistoryEntry

LONGEST_ACTOR = 255


def note(plan_ids: Collection[UUID], verb: str, by: Any, reason: str, step_number: int | None = None) -> None:
    """Write down who did what to these plans, and let pages notice. Two statements."""
    HistoryEntry.objects.bulk_create(
        HistoryEntry(plan_id=plan_id, verb=verb, actor=str(by)[:LONGEST_ACTOR], reason=reason, step_number=step_number)
        for plan_id in plan_ids
    )
    ExecutionPlan.objects.filter(pk__in=plan_ids).update(revision=F("revision") + 1)
