"""Deletes plans with all that belongs to them: a fixed number of statements for any number of plans."""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from django.db.models import CASCADE, SET_NULL, Model, QuerySet

from dynflow_app.models import (
    Action,
    Attempt,
    Dependency,
    Envelope,
    Event,
    ExecutionPlan,
    Gate,
    HistoryEntry,
    OutputChunk,
    Prerequisite,
    Step,
    SubPlans,
)
from dynflow_app.models.base import ledger_alias
from dynflow_app.retention.families import relations

_OWNED: dict[type[Model], str] = {
    Event: "step__plan",
    Attempt: "step__plan",
    SubPlans: "step__plan",
    OutputChunk: "action__plan",
    Dependency: "gate__plan",
    Envelope: "plan",
    HistoryEntry: "plan",
    Prerequisite: "plan",
    Step: "plan",
    Gate: "plan",
    Action: "plan",
    ExecutionPlan: "id",
}
"""Every table of the ledger with rows that belong to a plan, what refers before what is referred to."""
KNOWN = frozenset(_OWNED)


def delete(plan_ids: Collection[UUID]) -> None:
    """Delete these plans, which the caller has locked, and whose sub-plans are among them. In its transaction.

    What the project itself refers to them with is treated as its foreign keys say.
    """
    alias = ledger_alias()
    for relation, path in relations():
        name = relation.field.name
        rows: QuerySet[Model] = relation.related_model._base_manager.using(alias)
        referring = rows.filter(**{f"{name}{path}__in": plan_ids})
        if relation.on_delete is CASCADE:
            referring.delete()
        elif relation.on_delete is SET_NULL:
            referring.update(**{name: None})
    ExecutionPlan.objects.filter(made_from__in=plan_ids).update(made_from=None)
    Prerequisite.objects.filter(after__in=plan_ids).update(after=None)
    for model, path in _OWNED.items():
        # Not delete(): it would load every row to look for what refers to it.
        model._default_manager.using(alias).filter(**{f"{path}__in": plan_ids}).order_by()._raw_delete(alias)
