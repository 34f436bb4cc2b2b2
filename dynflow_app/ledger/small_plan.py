"""A small plan, its actions, steps and tickets in one statement of PostgreSQL: what most triggers store.

The function of the database gets whole rows, so its text names no column that it does not care about.
"""

from __future__ import annotations

import json
from datetime import datetime
from functools import cache
from typing import Any

from django.db.models import Model

from dynflow_app.ledger.columns import constants_of
from dynflow_app.ledger.rows import PlanRows
from dynflow_app.models import Action, ExecutionPlan, Step
from dynflow_app.models.base import execute, ledger_connection

FEW = 50
"""Steps, and actions, up to which it is cheaper than copying."""
_SQL = "SELECT dynflow_plan_1(%s::jsonb, %s::jsonb, %s::jsonb, %s::jsonb, %s::jsonb)"
_GIVEN = {
    Action: ("id", "plan_id", "number", "name", "caller_number", "input", "consumes"),
    Step: (
        "id", "plan_id", "action_id", "number", "phase", "state", "ready_at", "queue", "priority", "is_idempotent",
        "is_awaited", "start_timeout", "limit_key", "weight",
    ),
}  # fmt: skip


def is_small(rows: PlanRows) -> bool:
    """Whether `insert` is for it."""
    if rows.gates or rows.is_known or len(rows.steps) > FEW or len(rows.actions) > FEW:
        return False
    return not any(step.is_ready and step.limit_key for step in rows.steps)


def insert(rows: PlanRows) -> None:
    """Write the plan, in the caller's transaction."""
    plan = rows.plan
    actions = [
        {
            "number": row.number, "name": row.name, "caller_number": row.caller_number, "input": row.input,
            "consumes": row.consumes,
        }
        for row in rows.actions
    ]  # fmt: skip
    steps = [
        {
            "action": row.action.number, "number": row.number, "phase": str(row.phase),
            "state": "ready" if row.is_ready else "pending", "queue": row.queue, "priority": row.priority,
            "is_idempotent": row.is_idempotent, "is_awaited": row.is_awaited, "start_timeout": row.start_timeout,
            "limit_key": row.limit_key, "weight": row.weight,
        }
        for row in rows.steps
    ]  # fmt: skip
    columns = {str(field.column): getattr(plan, field.attname) for field in ExecutionPlan._meta.concrete_fields}
    given = [_text(columns), _same(Action), json.dumps(actions), _same(Step), json.dumps(steps)]
    execute(_SQL, given)
    plan._state.adding, plan._state.db = False, ledger_connection().alias


@cache
def _same(model: type[Model]) -> str:
    """What is the same in all new rows of a table."""
    return _text(constants_of(model, _GIVEN[model]))


def _text(values: dict[str, Any]) -> str:
    """As JSON; what is missing there is null."""
    return json.dumps({name: value for name, value in values.items() if value is not None}, default=_plain)


def _plain(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
