"""What the archive keeps of a plan: one line of JSON, with secrets masked as they are wherever they are shown.

Lines are made piece by piece, and rows are read in chunks: memory does not grow with the plans.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any
from uuid import UUID

from django.db.models import Model

from dynflow_app.actions.middleware import presented
from dynflow_app.models import (
    Action,
    Attempt,
    Event,
    ExecutionPlan,
    HistoryEntry,
    OutputChunk,
    ResourceLink,
    ResourceLock,
    Step,
)
from dynflow_app.payloads.masking import masked

FORMAT = "dynflow-plan/1"
BEGINNING = f'{{"format":"{FORMAT}",'
CHUNK = 500
"""Rows read at once."""

_PLAN = {
    "id": "id", "label": "label", "action": "action", "state": "state", "result": "result", "error": "error",
    "queue": "queue", "priority": "priority", "tags": "tags", "idempotency_key": "idempotency_key",
    "singleton": "singleton", "triggered_by": "triggered_by", "made_from": "made_from_id", "made_as": "made_as",
    "parent": "parent_step__plan_id", "parent_step": "parent_step__number", "position": "position",
    "start_at": "start_at", "start_before": "start_before", "created_at": "created_at", "started_at": "started_at",
    "ended_at": "ended_at",
}  # fmt: skip
_MASKED = frozenset({"error", "data"})
_PRESENTED = frozenset({"input", "planned_input", "output"})


@dataclass(frozen=True)
class _Section:
    """Rows of one table that belong to a plan."""

    model: type[Model]
    plan: str
    """Path to the plan's key."""
    order: tuple[str, ...]
    keys: Mapping[str, str]
    """Key in the archive to path."""


def _same(*names: str) -> dict[str, str]:
    return {name: name for name in names}


_SECTIONS = {
    "actions": _Section(
        Action, "plan_id", ("number",),
        _same("number", "name", "caller_number", "input", "planned_input", "output", "consumes"),
    ),
    "steps": _Section(
        Step, "plan_id", ("number",),
        {"number": "number", "action": "action__number"}
        | _same("phase", "state", "queue", "priority", "attempt", "failures", "limit_key", "weight", "progress")
        | _same("ran_for", "worker", "error", "ready_at", "started_at", "ended_at"),
    ),
    "attempts": _Section(
        Attempt, "step__plan_id", ("step__number", "number"),
        {"step": "step__number"} | _same("number", "ended_as", "worker", "error", "started_at", "ended_at"),
    ),
    "events": _Section(
        Event, "step__plan_id", ("step__number", "id"),
        {"step": "step__number"} | _same("name", "data", "state", "key", "sent_by", "sent_at", "due_at", "attempt"),
    ),
    "history": _Section(
        HistoryEntry, "plan_id", ("id",),
        {"verb": "verb", "step": "step_number"} | _same("actor", "reason", "at"),
    ),
    "locks": _Section(
        ResourceLock, "plan_id", ("id",),
        _same("resource", "is_shared", "state", "queued_at", "held_at", "unlocked_at", "reason"),
    ),
    "links": _Section(ResourceLink, "plan_id", ("id",), _same("resource")),
    "logs": _Section(
        OutputChunk, "action__plan_id", ("action__number", "id"),
        {"action": "action__number"} | _same("attempt", "text", "created_at"),
    ),
}  # fmt: skip


def lines(plan_ids: Collection[UUID]) -> Iterator[str]:
    """The lines of these plans, in the order of their keys, in pieces. A fixed number of queries."""
    plans = ExecutionPlan.objects.filter(id__in=plan_ids).order_by("id").values_list(*_PLAN.values())
    sections = {name: _Rows(section, plan_ids) for name, section in _SECTIONS.items()}
    for values in plans.iterator(CHUNK):
        plan = dict(zip(_PLAN, values, strict=True))
        yield f'{BEGINNING}"plan":{_json(plan)}'
        for name, rows in sections.items():
            yield f',"{name}":['
            for n, row in enumerate(rows.of(plan["id"])):
                yield f"{',' if n else ''}{_json(row)}"
            yield "]"
        yield "}\n"


class _Rows:
    """The rows of one section, of one plan after the other."""

    def __init__(self, section: _Section, plan_ids: Collection[UUID]) -> None:
        self._keys = tuple(section.keys)
        found = section.model._default_manager.filter(**{f"{section.plan}__in": plan_ids})
        found = found.order_by(section.plan, *section.order)
        self._rows = iter(found.values_list(section.plan, *section.keys.values()).iterator(CHUNK))

    def of(self, plan_id: UUID) -> Iterator[dict[str, Any]]:
        """Those of `plan_id`, the next plan. To be read to the end."""
        for owner, *values in self._rows:
            if owner != plan_id:
                self._rows = chain([(owner, *values)], self._rows)
                return
            yield dict(zip(self._keys, values, strict=True))


def _json(row: dict[str, Any]) -> str:
    name = row.get("name", "")
    shown = {key: _shown(key, value, name) for key, value in row.items()}
    return json.dumps(shown, default=_text, separators=(",", ":"))


def _shown(key: str, value: Any, action_name: str) -> Any:
    if key in _PRESENTED and isinstance(value, dict):
        return presented(action_name, value)
    return masked(value) if key in _MASKED else value


def _text(value: Any) -> str:
    return str(value.isoformat() if hasattr(value, "isoformat") else value)
