"""Which rows belong to a plan: those of the ledger, and those of the project that refer to them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.db.models import ForeignObjectRel, Model, QuerySet

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
    ResourceLink,
    ResourceLock,
    Step,
    SubPlans,
    Ticket,
)
from dynflow_app.models.base import ledger_alias

OWNED: dict[type[Model], str] = {
    Ticket: "step__plan",
    Event: "step__plan",
    Attempt: "step__plan",
    SubPlans: "step__plan",
    OutputChunk: "action__plan",
    Dependency: "gate__plan",
    Envelope: "plan",
    HistoryEntry: "plan",
    Prerequisite: "plan",
    ResourceLock: "plan",
    ResourceLink: "plan",
    Step: "plan",
    Gate: "plan",
    Action: "plan",
    ExecutionPlan: "id",
}
"""Tables of the ledger, each with the path to the plan; what refers comes before what is referred to."""
_REFERRED_TO: dict[type[Model], str] = {ExecutionPlan: "", Action: "__plan", Step: "__plan", Gate: "__plan"}


@dataclass(frozen=True, slots=True)
class Reference:
    """A foreign key of another table to a plan, or to something that belongs to one."""

    model: type[Model]
    field: str
    path: str
    """To the plan."""
    on_delete: Any

    @property
    def rows(self) -> QuerySet[Any]:
        """All rows of that table."""
        return self.model._base_manager.using(ledger_alias())


def references() -> Iterator[Reference]:
    """Every foreign key to what belongs to a plan, but those of `OWNED`."""
    for model, path in _REFERRED_TO.items():
        for relation in model._meta.get_fields(include_hidden=True):
            if not isinstance(relation, ForeignObjectRel) or relation.many_to_many:
                continue
            if relation.related_model not in OWNED:
                field = relation.field
                yield Reference(field.model, field.name, field.name + path, getattr(relation, "on_delete", None))
