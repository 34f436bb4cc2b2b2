"""Release: steps whose gate has opened become ready. A consequence of what ended, not a decision."""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from dynflow_app.ledger.effects import BecameReady, Effects
from dynflow_app.ledger.steps import make_ready, make_these_ready
from dynflow_app.models import Dependency, Gate, Step
from dynflow_app.models.base import db_key, execute, is_any_of, ledger_connection
from dynflow_app.states import FLOW_PHASES, StepState

_GATE = Gate._meta.db_table
_DEPENDENCY = Dependency._meta.db_table


def open_gates(ended_steps: Collection[int], of_plans: Collection[UUID], effects: Effects) -> None:
    """Count down what waited for `ended_steps` and make ready what waits for nothing more.

    Steps of plans not in `of_plans` (they are not running) stay pending behind their open gate.
    The plans must be locked.
    """
    opened: list[int] = []
    fresh, awaited = _count_down("step_id", ended_steps) if ended_steps else ([], [])
    while fresh:
        opened += fresh
        fresh, awaited = _count_down("after_gate_id", awaited) if awaited else ([], [])
    if opened and of_plans:
        effects.became_ready(_make_ready_behind(opened, of_plans), is_new=True)


def release_frontier(plan_ids: Collection[UUID], effects: Effects) -> set[UUID]:
    """Make ready every run step of these plans that waits for nothing: to start a plan, or to resume it. Returns the
    plans in which there is one."""
    if not plan_ids:
        return set()
    connection = ledger_connection()
    inside, parameters = is_any_of(connection, "plan_id", [db_key(plan_id, connection) for plan_id in plan_ids])
    is_open = f"(gate_id IS NULL OR EXISTS (SELECT 1 FROM {_GATE} WHERE {_GATE}.id = gate_id AND waits_for = 0))"  # noqa: S608 - names are ours
    made = make_ready(f"{inside} AND phase IN ('run', 'revert') AND {is_open}", parameters, frm=StepState.PENDING)
    effects.became_ready(made, is_new=True)
    return {row.plan_id for row in made}


def _count_down(column: str, ended: Collection[int]) -> tuple[list[int], list[int]]:
    """Returns the gates that opened, and which of them other gates wait for."""
    condition, parameters = is_any_of(ledger_connection(), column, ended)
    sql = f"""
        UPDATE {_GATE} SET waits_for = waits_for - ended.n
        FROM (
            SELECT gate_id, COUNT(*) AS n FROM {_DEPENDENCY}
            WHERE {column} IS NOT NULL AND {condition} GROUP BY gate_id
        ) AS ended
        WHERE {_GATE}.id = ended.gate_id RETURNING {_GATE}.id, {_GATE}.waits_for, {_GATE}.is_awaited
    """  # noqa: S608 - names are ours
    opened = [(gate, is_awaited) for gate, waits_for, is_awaited in execute(sql, parameters) if waits_for == 0]
    return [gate for gate, _ in opened], [gate for gate, is_awaited in opened if is_awaited]


def _make_ready_behind(gates: Collection[int], of_plans: Collection[UUID]) -> list[BecameReady]:
    """Found by their gates alone: without statistics PostgreSQL might read whole plans instead."""
    behind = Step.objects.filter(gate__in=gates, phase__in=FLOW_PHASES, state=StepState.PENDING)
    found = [pk for pk, plan_id in behind.values_list("pk", "plan_id") if plan_id in of_plans]
    return make_these_ready(found, frm=StepState.PENDING)
