"""A worker's turn in one round trip, where PostgreSQL can: record, release, count, go on or stop, claim, load.

The function `dynflow_turn_1` of the database does for the most common outcomes what `recording` and `claiming` do for
all; the same random plans are run both ways by a test that compares the ledgers. It was measured against the same
statements sent in one go (pipeline mode); see the page on performance.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.db import DatabaseError

from dynflow_app import clock, probes
from dynflow_app.ledger.claiming import claimed_from
from dynflow_app.ledger.effects import Effects, Settled
from dynflow_app.messages import Claimed, EndedAs, Outcome
from dynflow_app.models.base import is_postgresql, ledger_connection
from dynflow_app.states import COUNTED_PHASES, PlanResult, PlanState, StepState

UNUSUAL = "DYN01"
"""The function's word for: take the general way."""
UNBOUNDED = 0.1
"""Seconds after which a claim looks at a whole queue again: steps that were handed back are before its end, and so are
those of a queue that had become empty."""
_SQL = (
    "SELECT * FROM dynflow_turn_1(%s::uuid[], %s::bigint[], %s::int[], %s::float8[], %s::float8[], %s::bigint[], "
    "%s::bigint[], %s::text[], %s::text[], %s::text, %s::uuid, %s::text[], %s::int[], %s::float8[], %s::int)"
)


class UnusualError(Exception):
    """Something about these outcomes needs more than the function does; nothing happened."""


@dataclass(slots=True)
class Bounds:
    """Where the last claim in each queue ended: before that there are only the remains of claimed tickets, through
    which PostgreSQL would have to look. They hold as long as claims are full."""

    _ends: dict[str, tuple[int, float]] = field(default_factory=dict)
    _since: float = 0.0

    def of(self, queues: Sequence[str]) -> tuple[list[int | None], list[float | None]]:
        """Rank and tag from which to look, for each queue."""
        now = clock.monotonic()
        if now - self._since > UNBOUNDED:
            self._ends.clear()
            self._since = now
        ends = [self._ends.get(queue, (None, None)) for queue in queues]
        return [rank for rank, _ in ends], [tag for _, tag in ends]

    def learn(self, ends: Iterable[tuple[str, int, float]], *, is_full: bool) -> None:
        """Note the places of tickets that a claim took."""
        if not is_full:
            self._ends.clear()
            return
        for queue, rank, tag in ends:
            self._ends[queue] = max(self._ends.get(queue, (rank, tag)), (rank, tag))


def can_turn(outcomes: Collection[Outcome]) -> bool:
    """Whether `turn` may be tried for these outcomes."""
    return is_postgresql(ledger_connection()) and all(
        o.state is StepState.SUCCESS and o.ended_as is EndedAs.SUCCEEDED and o.phase in COUNTED_PHASES
        and o.event_id is None and not o.unlocked and not o.is_limited
        for o in outcomes
    )  # fmt: skip


def turn(
    outcomes: Sequence[Outcome],
    *,
    worker: str,
    world_id: UUID | None = None,
    queues: Sequence[str] = (),
    limit: int = 0,
    bounds: Bounds | None = None,
) -> tuple[Effects, list[Claimed]]:
    """Record `outcomes`, then claim up to `limit` steps of `queues` for a world; concluded, in the caller's transaction
    or one of its own. Raises `UnusualError`, which has undone it (and breaks a transaction around it)."""
    bounds = bounds or Bounds()
    ranks, tags = bounds.of(queues)
    changed = [o for o in outcomes if o.output is not None or o.input is not None]
    now = clock.monotonic()
    parameters = [
        _array({o.plan_id for o in outcomes}),
        _array(o.step_id for o in outcomes),
        _array(o.attempt for o in outcomes),
        _array(now - o.ended if o.ended else 0.0 for o in outcomes),
        _array(o.seconds for o in outcomes),
        _array(o.step_id for o in outcomes if o.is_awaited),
        _array(o.action_id for o in changed),
        [o.output for o in changed], [o.input for o in changed],
        worker, world_id, list(queues), ranks, tags, limit,
    ]  # fmt: skip
    rows = _call(parameters)
    effects = _effects_of(json.loads(rows.pop(0)[9])) if outcomes else Effects()
    bounds.learn(((row[5], row[18], row[19]) for row in rows), is_full=len(rows) == limit)
    if outcomes:
        probes.reached(probes.Probe.OUTCOMES_WRITTEN)
    if rows:
        rows.sort(key=_step_id)
        probes.reached(probes.Probe.STEPS_CLAIMED)
    return effects, claimed_from(rows)


def _call(parameters: Sequence[Any]) -> list[Any]:
    import psycopg

    connection = ledger_connection()
    connection.ensure_connection()
    cursor = psycopg.Cursor(connection.connection)  # Django's own adds its work to each row
    try:
        with connection.wrap_database_errors:
            return cursor.execute(_SQL, parameters).fetchall()
    except DatabaseError as error:
        if getattr(error.__cause__, "sqlstate", None) == UNUSUAL:
            raise UnusualError from None
        raise


def _effects_of(summary: dict[str, Any]) -> Effects:
    success = Settled(PlanState.STOPPED, PlanResult.SUCCESS)
    return Effects(
        ready=Counter(summary["ready"]),
        rings_orchestrator=summary["rings"],
        settled={UUID(plan_id): success for plan_id in summary["stopped"]},
    )


def _array(values: Iterable[Any]) -> str:
    """An array as text, which is quicker to make than psycopg's own."""
    return "{" + ",".join(map(str, values)) + "}"


def _step_id(row: Sequence[Any]) -> Any:
    return row[0]
