"""Deletes plans with all that belongs to them: a fixed number of statements for any number of plans."""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from django.db.models import CASCADE, SET_NULL

from dynflow_app.models import ExecutionPlan, Prerequisite
from dynflow_app.models.base import ledger_alias
from dynflow_app.retention.tables import OWNED, references


def delete(plan_ids: Collection[UUID]) -> None:
    """Delete these plans, which the caller has locked, and whose sub-plans are among them. In its transaction.

    Rows of other tables that refer to them are treated as their foreign keys say.
    """
    alias = ledger_alias()
    for reference in references():
        referring = reference.rows.filter(**{f"{reference.path}__in": plan_ids})
        if reference.on_delete is CASCADE:
            referring.delete()
        elif reference.on_delete is SET_NULL:
            referring.update(**{reference.field: None})
    ExecutionPlan.objects.filter(made_from__in=plan_ids).update(made_from=None)
    Prerequisite.objects.filter(after__in=plan_ids).update(after=None)
    for model, path in OWNED.items():
        # Not delete(): it would load every row to look for what refers to it.
        model._default_manager.using(alias).filter(**{f"{path}__in": plan_ids}).order_by()._raw_delete(alias)
