"""Plans in the tables of a limit, made by SQL alone."""

from __future__ import annotations

import secrets
import time
import uuid
from typing import Any

import psycopg

from project.bench.limits.design import Design

PLAN = "INSERT INTO plan (id, state, active_steps, started_at) VALUES (%(plan)s, 'running', %(active)s, now())"
ACTIONS = "INSERT INTO action (plan_id, number) SELECT %(plan)s, number FROM generate_series(1, %(count)s) AS number"
READY_STEPS = """
    INSERT INTO step (plan_id, action_id, number, state, ready_at)
    SELECT plan_id, id, number, 'ready', now() FROM action WHERE plan_id = %(plan)s ORDER BY number
"""
GATES = """
    INSERT INTO gate (plan_id, waits_for) SELECT %(plan)s, 1 FROM generate_series(2, %(count)s)
"""
CHAINED_STEPS = """
    INSERT INTO step (plan_id, action_id, number, state, gate_id)
    SELECT action.plan_id, action.id, action.number, CASE action.number WHEN 1 THEN 'ready' ELSE 'pending' END, gate.id
    FROM action LEFT JOIN (
        SELECT id, 1 + row_number() OVER (ORDER BY id) AS number FROM gate WHERE plan_id = %(plan)s
    ) AS gate ON gate.number = action.number
    WHERE action.plan_id = %(plan)s ORDER BY action.number
"""
DEPENDENCIES = """
    INSERT INTO dependency (gate_id, step_id)
    SELECT step.gate_id, earlier.id FROM step JOIN step AS earlier
        ON earlier.plan_id = step.plan_id AND earlier.number = step.number - 1
    WHERE step.plan_id = %(plan)s AND step.gate_id IS NOT NULL ORDER BY step.number
"""


def new_id() -> uuid.UUID:
    """Of a plan or world; later ones are greater, which keeps the ends of indexes warm."""
    return uuid.UUID(int=time.time_ns() << 64 | secrets.randbits(64))


def fan(direct: psycopg.Connection[Any], design: Design, count: int) -> uuid.UUID:
    """A running plan of ``count`` ready steps."""
    return _fill(direct, design, count, active=count, statements=(PLAN, ACTIONS, READY_STEPS))


def chain(direct: psycopg.Connection[Any], design: Design, count: int) -> uuid.UUID:
    """A running plan of ``count`` steps one after the other, the first of them ready."""
    return _fill(direct, design, count, active=1, statements=(PLAN, ACTIONS, GATES, CHAINED_STEPS, DEPENDENCIES))


def world(direct: psycopg.Connection[Any]) -> uuid.UUID:
    """Somebody who may claim."""
    identity = new_id()
    direct.execute("INSERT INTO world (id) VALUES (%s)", [identity])
    return identity


def _fill(
    direct: psycopg.Connection[Any], design: Design, count: int, *, active: int, statements: tuple[str, ...]
) -> uuid.UUID:
    plan = new_id()
    with direct.transaction():
        for statement in (*statements, design.enqueue):
            if statement:
                direct.execute(statement, {"plan": plan, "count": count, "active": active})
    direct.execute("ANALYZE")
    return plan
