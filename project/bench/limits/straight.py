"""The limit of a straight design: state in partial indexes, a row per attempt, keys that the database checks."""

from __future__ import annotations

from project.bench.limits.design import CLAIMED, COUNTED, GIVEN, OPENED, Design

ATTEMPTS = """
    attempts AS (
        INSERT INTO attempt (step_id, number, ended_as, worker, started_at, ended_at)
        SELECT id, attempt, 'succeeded', 'limit', started_at, statement_timestamp() FROM recorded
    )"""
PICKED = """
    picked AS MATERIALIZED (
        SELECT id FROM step WHERE state = 'ready' AND NOT is_held AND queue = %(queue)s
        ORDER BY priority DESC, id LIMIT %(batch)s FOR UPDATE SKIP LOCKED
    )"""

STRAIGHT = Design(
    name="straight",
    turn=f"WITH {GIVEN}, {ATTEMPTS}, {COUNTED}, {PICKED}, {CLAIMED}",
    release=f"WITH {GIVEN}, {ATTEMPTS}, {OPENED} SELECT count(*) FROM released",  # noqa: S608 - parts are ours
    claim=f"WITH {PICKED}, {CLAIMED}",
    trigger=(
        "INSERT INTO plan (id) VALUES (%(plan)s)",
        "INSERT INTO action (plan_id, number) VALUES (%(plan)s, 1) RETURNING id AS action",
        "INSERT INTO step (plan_id, action_id, number, queue) VALUES (%(plan)s, %(action)s, 1, %(queue)s)",
        "INSERT INTO envelope (plan_id) VALUES (%(plan)s)",
    ),
)
