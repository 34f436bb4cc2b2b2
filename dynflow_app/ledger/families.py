"""Families: a plan with its sub-plans, their sub-plans, and so on; and many plans ended at once, as these are."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import QuerySet
from django.db.models.expressions import RawSQL

from dynflow_app.ledger.concluding import conclude, ring_after_commit
from dynflow_app.ledger.effects import Effects
from dynflow_app.ledger.history import note
from dynflow_app.ledger.stopping import end_whole
from dynflow_app.models import ExecutionPlan, Step
from dynflow_app.models.base import db_key, ledger_alias, ledger_connection
from dynflow_app.states import StopRequest

_PLAN = ExecutionPlan._meta.db_table
_STEP = Step._meta.db_table


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


def members(root: UUID) -> QuerySet[ExecutionPlan]:
    """The whole family, however large."""
    sql = f"""
        WITH RECURSIVE family(id) AS (
            SELECT id FROM {_PLAN} WHERE id = %s
            UNION ALL
            SELECT child.id FROM family
            JOIN {_STEP} AS step ON step.plan_id = family.id
            JOIN {_PLAN} AS child ON child.parent_step_id = step.id
        )
        SELECT id FROM family
    """  # noqa: S608 - names are ours
    return ExecutionPlan.objects.filter(id__in=RawSQL(sql, [db_key(root, ledger_connection())]))  # noqa: S611 - names are ours
