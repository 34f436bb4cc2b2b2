"""Comparing: what the ledger believes about one world, for that world to compare with what it knows itself.

Where a reply was lost the two differ: a transaction that claimed a step took place, and nobody here has the step.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TypeAlias
from uuid import UUID

from dynflow_app.models import Step, Ticket, World
from dynflow_app.models.base import db_key, execute, is_postgresql, ledger_connection, now_sql
from dynflow_app.models.ticket import CLAIMABLE_SQL
from dynflow_app.states import StepState

StepAttempt: TypeAlias = tuple[int, int]
"""A step's id and the number of one of its attempts."""

_STEP = Step._meta.db_table
_TICKET = Ticket._meta.db_table
_WORLD = World._meta.db_table


@dataclass(frozen=True, slots=True)
class Belief:
    """What the ledger says."""

    running: frozenset[StepAttempt]
    """What runs in this world."""
    is_anything_ready: bool
    """Whether a claim would find something."""


def look(world_id: UUID, queues: Sequence[str] | None) -> Belief:
    """What the ledger believes about a world and its queues (None: all); notes on the world that it has looked.

    One statement, in the caller's transaction or one of its own; it reads what this world has and one ready step.
    """
    connection = ledger_connection()
    pairs = "json_agg(json_build_array" if is_postgresql(connection) else "json_group_array(json_array"
    key = db_key(world_id, connection)
    sql = f"""
        UPDATE {_WORLD} SET looked_at = {now_sql(connection)} WHERE id = %s RETURNING
        COALESCE((
            SELECT {pairs}(step.id, step.attempt))
            FROM {_TICKET} AS ticket JOIN {_STEP} AS step ON step.id = ticket.step_id
            WHERE ticket.world_id = %s AND step.state = 'running'
        ), '[]'), {_is_anything_ready(queues)}
    """  # noqa: S608 - names are ours
    rows = execute(sql, [key, key, *(queues or ())])
    if not rows:  # it was declared dead, and forgotten
        return Belief(frozenset(), is_anything_ready=False)
    running, is_anything_ready = rows[0]
    found = json.loads(running) if isinstance(running, str) else running
    return Belief(frozenset((step, attempt) for step, attempt in found), bool(is_anything_ready))


def _is_anything_ready(queues: Sequence[str] | None) -> str:
    """An expression with a parameter for each queue. Each is one look at an index, however much is in line."""
    if queues is None:
        return f"(SELECT MIN(queue) FROM {_TICKET} AS line WHERE {CLAIMABLE_SQL}) IS NOT NULL"  # noqa: S608
    first = f"SELECT step_id FROM {_TICKET} AS line WHERE {CLAIMABLE_SQL} AND queue = %s ORDER BY rank, tag LIMIT 1"  # noqa: S608
    return f"COALESCE({', '.join([f'({first})'] * len(queues))}, NULL) IS NOT NULL"


def taken_back(had: Collection[StepAttempt]) -> list[int]:
    """Which of these steps are somebody else's by now, or may be in a moment: their code runs in vain."""
    attempts = dict(had)
    rows = Step.objects.filter(pk__in=attempts).values_list("id", "attempt", "state")
    return [step for step, attempt, state in rows if attempt > attempts[step] or state == StepState.READY]
