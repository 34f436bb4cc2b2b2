"""Copying plans into PostgreSQL: keys from the sequences in one statement, then COPY, a table at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache

from django.db.models import Model

from dynflow_app.ledger.columns import NULL, Columns, columns_of, json_text, text, written
from dynflow_app.ledger.rows import PlanRows
from dynflow_app.models import Action, Dependency, ExecutionPlan, Gate, Step, Ticket
from dynflow_app.models.base import execute, ledger_connection

_VARYING: dict[type[Model], tuple[str, ...]] = {
    ExecutionPlan: tuple(str(field.column) for field in ExecutionPlan._meta.concrete_fields),
    Action: ("id", "plan_id", "number", "name", "caller_number", "input", "consumes"),
    Gate: ("id", "plan_id", "waits_for", "is_awaited"),
    Step: (
        "id", "plan_id", "action_id", "number", "phase", "state", "ready_at", "queue", "priority", "gate_id",
        "is_awaited", "is_idempotent", "start_timeout", "limit_key", "weight",
    ),
    Dependency: ("gate_id", "step_id", "after_gate_id"),
}  # fmt: skip


def insert(plans: Sequence[PlanRows]) -> None:
    """Write these plans, in the caller's transaction."""
    actions, gates, steps, now = _keys(plans)
    for rows in plans:
        for action in rows.new_actions:
            action.pk = next(actions)
    gate_keys = [[next(gates) for _ in rows.gates] for rows in plans]
    step_keys = [[next(steps) for _ in rows.steps] for rows in plans]
    new = [rows.plan for rows in plans if not rows.is_known]
    _copy(ExecutionPlan, map(_plan, new))
    for plan in new:
        plan._state.adding, plan._state.db = False, ledger_connection().alias
    _copy(Action, (line for rows in plans for line in _actions(rows)))
    _copy(Gate, (line for rows, keys in zip(plans, gate_keys, strict=True) for line in _gates(rows, keys)))
    together = list(zip(plans, gate_keys, step_keys, strict=True))
    _copy(Step, (line for part in together for line in _steps(*part, now=now)))
    _copy(Dependency, (line for part in together for line in _dependencies(*part)))
    ready = [rows.plan.pk for rows in plans if any(step.is_ready for step in rows.steps)]
    if ready:
        Ticket.objects.draw_for_plans(ready)


def _keys(plans: Sequence[PlanRows]) -> tuple[Iterator[int], Iterator[int], Iterator[int], str]:
    """As many keys of actions, gates and steps as are needed, and the time. One statement."""
    numbers = {
        Action: sum(len(rows.new_actions) for rows in plans),
        Gate: sum(len(rows.gates) for rows in plans),
        Step: sum(len(rows.steps) for rows in plans),
    }
    arrays = ", ".join(
        f"(SELECT array_agg(nextval(pg_get_serial_sequence('{model._meta.db_table}', 'id'))) "  # noqa: S608 - as below
        f"FROM generate_series(1, {number}))"
        for model, number in numbers.items()
    )
    row = execute(f"SELECT {arrays}, statement_timestamp()::text")[0]
    return iter(row[0] or ()), iter(row[1] or ()), iter(row[2] or ()), row[3]


def _plan(plan: ExecutionPlan) -> str:
    fields = ExecutionPlan._meta.concrete_fields
    return "\t".join(written(field, getattr(plan, field.attname)) for field in fields) + "\n"


def _actions(rows: PlanRows) -> Iterator[str]:
    template = _columns(Action).template
    for row in rows.new_actions:
        yield template % {
            "id": row.pk, "plan_id": rows.plan.pk, "number": row.number, "name": text(row.name),
            "caller_number": NULL if row.caller_number is None else row.caller_number,
            "input": json_text(row.input), "consumes": row.consumes,
        }  # fmt: skip


def _gates(rows: PlanRows, keys: Sequence[int]) -> Iterator[str]:
    template = _columns(Gate).template
    awaited = {position for spec in rows.gates for position in spec.gates}
    for position, spec in enumerate(rows.gates):
        yield template % {
            "id": keys[position], "plan_id": rows.plan.pk, "waits_for": len(spec.steps) + len(spec.gates),
            "is_awaited": "t" if position in awaited else "f",
        }  # fmt: skip


def _steps(rows: PlanRows, gate_keys: Sequence[int], step_keys: Sequence[int], *, now: str) -> Iterator[str]:
    template = _columns(Step).template
    for key, row in zip(step_keys, rows.steps, strict=True):
        yield template % {
            "id": key, "plan_id": rows.plan.pk, "action_id": row.action.pk, "number": row.number,
            "phase": str(row.phase), "state": "ready" if row.is_ready else "pending",
            "ready_at": now if row.is_ready else NULL, "queue": text(row.queue), "priority": row.priority,
            "gate_id": NULL if row.gate is None else gate_keys[row.gate],
            "is_awaited": "t" if row.is_awaited else "f", "is_idempotent": "t" if row.is_idempotent else "f",
            "start_timeout": NULL if row.start_timeout is None else row.start_timeout,
            "limit_key": NULL if row.limit_key is None else text(row.limit_key), "weight": row.weight,
        }  # fmt: skip


def _dependencies(rows: PlanRows, gate_keys: Sequence[int], step_keys: Sequence[int]) -> Iterator[str]:
    template = _columns(Dependency).template
    for position, spec in enumerate(rows.gates):
        for number in spec.steps:
            yield template % {"gate_id": gate_keys[position], "step_id": step_keys[number - 1], "after_gate_id": NULL}
        for other in spec.gates:
            yield template % {"gate_id": gate_keys[position], "step_id": NULL, "after_gate_id": gate_keys[other]}


@cache
def _columns(model: type[Model]) -> Columns:
    return columns_of(model, _VARYING[model])


CHUNK = 2000
"""Lines sent at once, so that memory does not grow with the plan."""


def _copy(model: type[Model], lines: Iterable[str]) -> None:
    import psycopg

    first = next(iter(lines := iter(lines)), None)
    if first is None:
        return
    connection = ledger_connection()
    sql = f"COPY {model._meta.db_table} ({', '.join(_columns(model).names)}) FROM STDIN"
    with connection.wrap_database_errors, psycopg.Cursor(connection.connection).copy(sql) as copy:
        part = [first]
        for line in lines:
            part.append(line)
            if len(part) == CHUNK:
                copy.write("".join(part))
                part.clear()
        copy.write("".join(part))
