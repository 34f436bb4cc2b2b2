"""A small plan, its actions, steps and tickets in one statement of PostgreSQL: what most triggers store."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from django.db.models import JSONField, Model

from dynflow_app.ledger.columns import NULL, columns_of
from dynflow_app.ledger.rows import PlanRows
from dynflow_app.models import Action, ExecutionPlan, Step
from dynflow_app.models.base import execute, ledger_connection
from dynflow_app.models.ticket import draw_sql

FEW = 50
"""Steps, and actions, up to which it is cheaper than copying."""
_ACTION = {
    "id": "action.id", "plan_id": "plan.id", "number": "action.number", "name": "action.name",
    "caller_number": "action.caller_number", "input": "action.input::jsonb", "consumes": "action.consumes::jsonb",
}  # fmt: skip
_STEP = {
    "plan_id": "plan.id", "action_id": "action.id", "number": "step.number", "phase": "step.phase",
    "state": "CASE WHEN step.is_ready THEN 'ready' ELSE 'pending' END",
    "ready_at": "CASE WHEN step.is_ready THEN statement_timestamp() END", "queue": "step.queue",
    "priority": "step.priority", "is_idempotent": "step.is_idempotent", "is_awaited": "step.is_awaited",
    "start_timeout": "step.start_timeout", "limit_key": "step.limit_key", "weight": "step.weight",
}  # fmt: skip


def is_small(rows: PlanRows) -> bool:
    """Whether `insert` is for it."""
    return not rows.gates and not rows.is_known and len(rows.steps) <= FEW and len(rows.actions) <= FEW


def insert(rows: PlanRows) -> None:
    """Write the plan, in the caller's transaction."""
    plan, actions, steps = rows.plan, rows.actions, rows.steps
    parameters: list[Any] = [_value(field, getattr(plan, field.attname)) for field in _plan_fields()]
    parameters += [
        [row.number for row in actions], [row.name for row in actions], [row.caller_number for row in actions],
        [json.dumps(row.input) for row in actions], [json.dumps(row.consumes) for row in actions],
        [row.action.number for row in steps], [row.number for row in steps], [str(row.phase) for row in steps],
        [row.is_ready for row in steps], [row.queue for row in steps], [row.priority for row in steps],
        [row.is_awaited for row in steps], [row.is_idempotent for row in steps], [row.start_timeout for row in steps],
        [row.limit_key for row in steps], [row.weight for row in steps],
    ]  # fmt: skip
    execute(_statement(has_ready=any(row.is_ready for row in steps)), parameters)
    plan._state.adding, plan._state.db = False, ledger_connection().alias


def _plan_fields() -> Any:
    return ExecutionPlan._meta.concrete_fields


def _value(field: Any, value: Any) -> Any:
    return json.dumps(value) if isinstance(field, JSONField) and value is not None else value


@cache
def _statement(*, has_ready: bool) -> str:
    columns = ", ".join(field.column for field in _plan_fields())
    places = ", ".join("%s::jsonb" if isinstance(field, JSONField) else "%s" for field in _plan_fields())
    sequence = f"pg_get_serial_sequence('{Action._meta.db_table}', 'id')"
    planned = f"""
        WITH plan AS (
            INSERT INTO {ExecutionPlan._meta.db_table} ({columns}) VALUES ({places})
            RETURNING id, fairness_key, fairness_weight
        ), action AS MATERIALIZED (
            SELECT nextval({sequence}) AS id, given.* FROM
            unnest(%s::int[], %s::text[], %s::int[], %s::text[], %s::text[])
                AS given(number, name, caller_number, input, consumes)
        ), stored AS (
            {_insert(Action, _ACTION)} FROM plan, action
        ), step AS (
            {_insert(Step, _STEP)} FROM plan,
            unnest(%s::int[], %s::int[], %s::text[], %s::bool[], %s::text[], %s::int[], %s::bool[], %s::bool[],
                %s::float8[], %s::text[], %s::float8[]) AS step(action, number, phase, is_ready, queue, priority,
                is_awaited, is_idempotent, start_timeout, limit_key, weight)
            JOIN action ON action.number = step.action
            ORDER BY step.number
            RETURNING id, queue, priority, state, limit_key
        )"""  # noqa: S608 - names are ours
    if not has_ready:
        return f"{planned} SELECT 1 FROM step LIMIT 1"  # noqa: S608 - as above
    fresh = """
        SELECT step.id, step.queue, -step.priority AS rank, plan.fairness_weight,
            CASE WHEN plan.fairness_key = '' THEN plan.id::text ELSE plan.fairness_key END AS fairness_key,
            step.limit_key
        FROM plan, step WHERE step.state = 'ready'"""
    return planned + draw_sql(fresh)


def _insert(model: type[Model], given: dict[str, str]) -> str:
    columns = columns_of(model, tuple(given))
    expressions = [given.get(name) or _literal(columns.constants[name]) for name in columns.names]
    return f"INSERT INTO {model._meta.db_table} ({', '.join(columns.names)}) SELECT {', '.join(expressions)}"


def _literal(constant: str) -> str:
    return "NULL" if constant == NULL else f"'{constant}'"
