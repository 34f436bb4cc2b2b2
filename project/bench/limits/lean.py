"""The limit of a lean design: a narrow queue table, no state in indexes of steps, neither attempts nor keys.

A claim begins where the last one ended, so that it does not walk over index entries of steps long gone.
"""

from __future__ import annotations

from project.bench.limits.design import CLAIMED, COUNTED, GIVEN, OPENED, Design

PICKED = """
    picked AS MATERIALIZED (
        DELETE FROM ready WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM ready WHERE queue = %(queue)s AND step_id > %(last)s
            ORDER BY priority DESC, step_id LIMIT %(batch)s FOR UPDATE SKIP LOCKED
        )) RETURNING step_id AS id
    )"""
QUEUED = "queued AS (INSERT INTO ready (queue, priority, step_id) SELECT queue, priority, id FROM released)"

LEAN = Design(
    name="lean",
    turn=f"WITH {GIVEN}, {COUNTED}, {PICKED}, {CLAIMED}",
    release=f"WITH {GIVEN}, {OPENED}, {QUEUED} SELECT count(*) FROM released",  # noqa: S608 - parts are ours
    claim=f"WITH {PICKED}, {CLAIMED}",
    trigger=(
        """
        WITH new_plan AS (INSERT INTO plan (id, state, active_steps) VALUES (%(plan)s, 'running', 1)),
        new_action AS (INSERT INTO action (plan_id, number) VALUES (%(plan)s, 1) RETURNING id),
        new_step AS (
            INSERT INTO step (plan_id, action_id, number, queue, state)
            SELECT %(plan)s, id, 1, %(queue)s, 'ready' FROM new_action RETURNING id, queue, priority
        ),
        queued AS (INSERT INTO ready (queue, priority, step_id) SELECT queue, priority, id FROM new_step)
        INSERT INTO envelope (plan_id) VALUES (%(plan)s)
        """,
    ),
    enqueue="INSERT INTO ready (queue, priority, step_id) SELECT queue, priority, id FROM step "
    "WHERE plan_id = %(plan)s AND state = 'ready' ORDER BY id",
)
