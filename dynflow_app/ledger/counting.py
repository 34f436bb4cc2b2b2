"""Counting: how many steps of a plan are active. The number stands on the plan, under its lock."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from dynflow_app.ledger.effects import Effects
from dynflow_app.models import ExecutionPlan
from dynflow_app.models.base import db_key, execute, from_db_key, ledger_connection, values_table
from dynflow_app.states import PlanState

_PLAN = ExecutionPlan._meta.db_table


class Quiet(NamedTuple):
    """A plan of which no step is active any more."""

    id: UUID
    state: PlanState
    has_finalize: bool
    is_simple: bool
    """Whether its end concerns no hooks and no locks."""


def count_active(effects: Effects) -> list[Quiet]:
    """Write the changes to the numbers of active steps down; returns the plans that have none left."""
    connection = ledger_connection()
    rows = [(db_key(plan_id, connection), by) for plan_id, by in effects.active.items()]
    effects.active.clear()
    if not rows:
        return []
    table, parameters = values_table(connection, {"plan_id": "uuid", "delta": "int"}, rows)
    sql = f"""
        UPDATE {_PLAN} SET active_steps = active_steps + changed.delta, revision = revision + 1
        FROM {table} AS changed WHERE {_PLAN}.id = changed.plan_id
        RETURNING {_PLAN}.id, {_PLAN}.active_steps, state, has_finalize, hooks, has_locks
    """  # noqa: S608 - names are ours
    return [
        Quiet(from_db_key(plan_id), PlanState(state), bool(has_finalize), hooks == "[]" and not has_locks)
        for plan_id, active, state, has_finalize, hooks, has_locks in execute(sql, parameters)
        if active == 0
    ]
