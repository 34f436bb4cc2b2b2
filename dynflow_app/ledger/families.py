"""Families: many plans are ended at once, as sub-plans are with their parent."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any
from uuid import UUID

from django.db import transaction

from dynflow_app.ledger.concluding import conclude, ring_after_commit
from dynflow_app.ledger.effects import Effects
from dynflow_app.ledger.history import note
from dynflow_app.ledger.stopping import end_whole
from dynflow_app.models import ExecutionPlan
from dynflow_app.models.base import ledger_alias
from dynflow_app.states import StopRequest


def end_many(plan_ids: Collection[UUID], request: StopRequest, *, by: Any = "", reason: str = "") -> int:
    """Cancel or abort many plans, with a fixed number of statements, in one transaction; those that have stopped are
    left out. Returns how many there were."""
    effects = Effects()
    with transaction.atomic(using=ledger_alias()):
        live = [plan for plan in ExecutionPlan.objects.filter(pk__in=plan_ids).lock() if not plan.is_stopped]
        if live:
            end_whole(live, request, effects)
            note([plan.pk for plan in live], str(request), by, reason)
            ring_after_commit(conclude(effects))
    return len(live)
