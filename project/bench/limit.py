"""The hand-written SQL limit: the statements of this design and nothing else, on the real tables.

One connection, prepared statements, no Python per step, no processes to wake. What the engine does beyond that is
its own cost; nothing of the same durability can be faster than this on the same server.
"""

from __future__ import annotations

import time
from typing import Any
from uuid import UUID

import psycopg
from django.db import connection

from dynflow_app.models import Envelope, ExecutionPlan, WorldKind
from dynflow_app.models.base import uuid7
from dynflow_app.processes.registration import register
from dynflow_app.triggering import trigger
from project.bench.actions import Chain, Fan
from project.bench.figures import median, percentile

QUEUE = "default"

RECORD = """
    UPDATE dynflow_app_step AS step SET state = 'success', world_id = NULL,
        started_at = statement_timestamp(), ended_at = statement_timestamp()
    FROM unnest(%s::bigint[], %s::int[]) AS outcome(id, attempt)
    WHERE step.id = outcome.id AND step.state = 'running' AND step.attempt = outcome.attempt
"""
ATTEMPTS = """
    INSERT INTO dynflow_app_attempt (step_id, number, ended_as, worker, error, started_at, ended_at)
    SELECT id, attempt, 'succeeded', 'limit', NULL, statement_timestamp(), statement_timestamp()
    FROM unnest(%s::bigint[], %s::int[]) AS outcome(id, attempt)
"""
RELEASE = """
    WITH opened AS (
        UPDATE dynflow_app_gate AS gate SET waits_for = waits_for - 1 FROM dynflow_app_dependency AS dependency
        WHERE dependency.step_id = ANY(%s) AND gate.id = dependency.gate_id RETURNING gate.id, gate.waits_for
    )
    UPDATE dynflow_app_step AS step SET state = 'ready', ready_at = statement_timestamp()
    FROM opened WHERE step.gate_id = opened.id AND opened.waits_for = 0 AND step.state = 'pending'
"""
COUNT = """
    UPDATE dynflow_app_executionplan SET active_steps = active_steps - %s, revision = revision + 1 WHERE id = %s
"""
CLAIM = """
    WITH picked AS MATERIALIZED (
        SELECT id FROM dynflow_app_step WHERE state = 'ready' AND queue = %s
        ORDER BY priority DESC, id LIMIT %s FOR UPDATE SKIP LOCKED
    ), claimed AS (
        UPDATE dynflow_app_step AS step
        SET state = 'running', attempt = attempt + 1, world_id = %s, started_at = statement_timestamp()
        FROM picked, dynflow_app_action AS action
        WHERE step.id = picked.id AND step.state = 'ready' AND action.id = step.action_id
        RETURNING step.id, step.attempt, action.name, action.input
    )
    SELECT array_agg(id), array_agg(attempt), array_agg(name), array_agg(input) FROM claimed
"""
PLAN = """
    INSERT INTO dynflow_app_executionplan (id, label, action, state, result, active_steps, priority, tags,
        triggered_by, revision, created_at, queue, fail_fast, has_finalize, is_frozen, hooks, made_as,
        is_waiting, round, has_locks)
    VALUES (%s, '', 'limit', 'planned', 'pending', 0, 0, '[]', '', 0, statement_timestamp(), '', false, false, false,
        '[]', '', false, 0, false)
"""
ACTION = """
    INSERT INTO dynflow_app_action (plan_id, number, name, input, output, consumes)
    VALUES (%s, 1, 'limit', '{}', '{}', '[]') RETURNING id
"""
STEP = """
    INSERT INTO dynflow_app_step (plan_id, action_id, number, phase, state, queue, priority, attempt,
        is_awaited, is_idempotent, cause, alarm, stop_request, rescue, failures, is_addressed, is_held, weight,
        progress, ran_for)
    VALUES (%s, %s, 1, 'run', 'pending', %s, 0, 0, false, false, 'start', '', '', '', 0, false, false, 1, 0, 0)
"""
ENVELOPE = """
    INSERT INTO dynflow_app_envelope (kind, plan_id, created_at) VALUES ('planned', %s, statement_timestamp())
"""


def steps(count: int, batch: int) -> dict[str, float]:
    """``count`` steps side by side, ``batch`` per transaction."""
    return {"steps_per_second": count / sum(_work_off(_prepared(Fan, count), batch, has_gates=False))}


def chain(count: int) -> dict[str, float]:
    """``count`` steps one after the other: each transaction records one and claims the next."""
    times = _work_off(_prepared(Chain, count), 1, has_gates=True)
    hops = [seconds * 1000 for seconds in times[1:-1]]  # the first only claims, the last only records
    return {"ms_per_hop_median": median(hops), "ms_per_hop_p95": percentile(hops, 95)}


def plans(count: int) -> dict[str, float]:
    """``count`` times the rows of a plan of one step, each in a transaction."""
    began = time.perf_counter()
    with _connected() as direct:
        for _ in range(count):
            plan_id = uuid7()
            with direct.transaction():
                direct.execute(PLAN, [plan_id])
                action_id = _row(direct.execute(ACTION, [plan_id]))[0]
                direct.execute(STEP, [plan_id, action_id, QUEUE])
                direct.execute(ENVELOPE, [plan_id])
    seconds = time.perf_counter() - began
    _forget()
    return {"triggered_per_second": count / seconds}


def commit(count: int = 200) -> float:
    """Median milliseconds of a transaction that changes one row."""
    plan_id = _prepared(Fan, 1)
    times = []
    with _connected() as direct:
        for _ in range(count):
            began = time.perf_counter()
            with direct.transaction():
                direct.execute("UPDATE dynflow_app_executionplan SET revision = 0 WHERE id = %s", [plan_id])
            times.append((time.perf_counter() - began) * 1000)
    _forget()
    return median(times)


def _work_off(plan_id: UUID, batch: int, *, has_gates: bool) -> list[float]:
    """Returns the seconds of each transaction."""
    world = register(WorldKind.WORKER, [QUEUE])
    ids: list[int] | None = []
    attempts: list[int] = []
    times = []
    with _connected() as direct:
        while ids is not None:
            began = time.perf_counter()
            with direct.transaction():
                if ids:
                    _record(direct, plan_id, ids, attempts, has_gates=has_gates)
                ids, attempts = _row(direct.execute(CLAIM, [QUEUE, batch, world.pk]))[:2]
            times.append(time.perf_counter() - began)
    world.delete()
    _forget()
    return times


def _record(direct: psycopg.Connection, plan_id: UUID, ids: list[int], attempts: list[int], *, has_gates: bool) -> None:
    direct.execute("SELECT 1 FROM dynflow_app_executionplan WHERE id = %s FOR NO KEY UPDATE", [plan_id])
    direct.execute(RECORD, [ids, attempts])
    direct.execute(ATTEMPTS, [ids, attempts])
    released = direct.execute(RELEASE, [ids]).rowcount if has_gates else 0
    direct.execute(COUNT, [len(ids) - released, plan_id])


def _prepared(action: type[Fan | Chain], count: int) -> UUID:
    """A plan whose first steps are ready, as if an orchestrator had started it."""
    plan_id = trigger(action, count).pk
    Envelope.objects.filter(plan_id=plan_id).delete()
    with connection.cursor() as cursor:
        cursor.execute("UPDATE dynflow_app_step SET state = 'ready' WHERE plan_id = %s AND gate_id IS NULL", [plan_id])
        cursor.execute(
            "UPDATE dynflow_app_executionplan SET state = 'running', active_steps = %s WHERE id = %s",
            [cursor.rowcount, plan_id],
        )
        cursor.execute("ANALYZE dynflow_app_step")
    return plan_id


def _forget() -> None:
    """Leave no plan that a system would take up."""
    Envelope.objects.all().delete()
    ExecutionPlan.objects.exclude(state="stopped").delete()


def _connected() -> psycopg.Connection:
    """A connection of its own: Django's adds its own work to each statement."""
    parameters = connection.get_connection_params()
    wanted = {key: parameters[key] for key in ("host", "port", "user", "password", "dbname") if parameters.get(key)}
    direct = psycopg.connect(**wanted, autocommit=True)
    direct.prepare_threshold = 1
    return direct


def _row(cursor: psycopg.Cursor[Any]) -> Any:
    row = cursor.fetchone()
    assert row is not None  # noqa: S101 - these statements return one
    return row
