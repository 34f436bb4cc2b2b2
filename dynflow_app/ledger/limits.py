"""Limits: steps with a limit's key are throttled when they become ready, and admitted as the limit allows.

A slot is taken by every step of the key from its admission to its end: ready, running or suspended. It says so itself
(`Step.slot`), so slots need no counter that could drift: they are counted when it matters, under the lock of the
limit's row.

Why no wake-up is lost: whoever makes steps throttled, or ends steps, calls `admit` afterwards in its transaction, and
the lock is kept until the commit. So of two such transactions the second counts only when all of the first can be
seen (READ COMMITTED: each statement sees what was committed before it began). Neither has to see the other's work
early.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models.functions import Now

from dynflow_app.actions.rate import Rate
from dynflow_app.models import Limit, Step, Ticket
from dynflow_app.models.base import execute, is_any_of, is_postgresql, ledger_connection
from dynflow_app.models.ticket import readmit_sql

LATE = timedelta(seconds=2)
"""By how much the orchestrator may look at waiting steps too late without slowing down their pace; what was missed
meanwhile starts at once."""
REMEMBERED = timedelta(days=1)
"""How exactly it is known when a limit was last declared."""
_ALL = 2**63 - 1
_TICKET = Ticket._meta.db_table
_STEP = Step._meta.db_table
_LIMIT = Limit._meta.db_table


def admit(keys: Collection[str]) -> tuple[Counter[str], bool]:
    """Let throttled steps of each key pass as its limit allows, by priority, then the oldest; returns queue to number,
    and whether others have to be looked at later.

    In the caller's transaction, after everything else that waits for locks, and once, with all its keys: the locks of
    the limits come last, in the order of the keys. A key without limit lets everything pass.
    """
    admitted: Counter[str] = Counter()
    is_later = False
    for key in sorted(set(keys)):
        passed, waits = _admit(key)
        admitted += passed
        is_later |= waits
    return admitted, is_later


def due_limits(limit: int) -> list[str]:
    """Up to `limit` keys whose rate allows a throttled step to start by now, by the database's clock; the oldest
    first."""
    return list(Limit.objects.filter(wakes_at__lte=Now()).order_by("wakes_at").values_list("key", flat=True)[:limit])


def keys_with_room() -> list[str]:
    """Keys that keep steps back though they need not: they have room, and nothing to wait for. Usually none."""
    sql = f"""
        SELECT waiting.throttled_by FROM (
            SELECT DISTINCT throttled_by FROM {_TICKET} WHERE throttled_by IS NOT NULL
        ) AS waiting LEFT JOIN {_LIMIT} ON {_LIMIT}.key = waiting.throttled_by
        WHERE {_LIMIT}.wakes_at IS NULL AND ({_LIMIT}.most IS NULL OR {_LIMIT}.most > (
            SELECT COUNT(*) FROM {_STEP} AS taken WHERE taken.slot = waiting.throttled_by
        ))
    """  # noqa: S608 - names are ours
    return [row[0] for row in execute(sql)]


def declare(limits: Iterable[tuple[str, int | None, Rate | None]]) -> None:
    """Store limits (key, how many at once, how many per time) as planned; in the caller's transaction.

    The last one of a key counts. One with neither number changes nothing, so that an action may share a key without
    repeating its limits. Rows that say so already are only read, but once a day, lest they be cleaned up: a changed row
    is locked until the caller commits.
    """
    wanted = {key: _limit(key, most, rate) for key, most, rate in limits if most is not None or rate is not None}
    known = Limit.objects.in_bulk(list(wanted))
    changed = [row for key, row in sorted(wanted.items()) if key not in known or _differs(known[key], row)]
    Limit.objects.bulk_create(
        changed, update_conflicts=True, unique_fields=["key"], update_fields=["most", "starts", "period", "declared_at"]
    )


# --- admission ---------------------------------------------------------------------------------------------------


def _admit(key: str) -> tuple[Counter[str], bool]:
    limit = Limit.objects.select_for_update(no_key=True).filter(pk=key).first()
    if limit is None:
        return _let_pass(key, _ALL), False
    room = _ALL if limit.most is None else max(0, limit.most - _taken(key, limit.most))
    pace = _pace(limit)
    passed = _let_pass(key, min(room, pace.due) if pace else room)
    next_start_at = pace.next_after(passed.total()) if pace else None
    wakes_at: datetime | Now | None = None
    if passed.total() < room and Ticket.objects.filter(throttled_by=key).exists():
        # The pace keeps them back; or another transaction has locked them, and need not call admit when it ends.
        wakes_at = next_start_at or Now()
    if (next_start_at, wakes_at) != (limit.next_start_at, limit.wakes_at):
        Limit.objects.filter(pk=key).update(next_start_at=next_start_at, wakes_at=wakes_at)
    return passed, wakes_at is not None


def _taken(key: str, most: int) -> int:
    """How many slots are taken; counts no further than `most`."""
    return Step.objects.filter(slot=key).order_by()[:most].count()


def _let_pass(key: str, number: int) -> Counter[str]:
    if not number:
        return Counter()
    connection = ledger_connection()
    # Whoever has locked a ticket may be waiting for our limit, so such tickets are passed over.
    lock = "FOR UPDATE SKIP LOCKED" if is_postgresql(connection) else ""
    picked = f"SELECT step_id FROM {_TICKET} WHERE throttled_by = %s ORDER BY rank, step_id LIMIT %s {lock}"  # noqa: S608 - names are ours
    ids = [row[0] for row in execute(picked, [key, number])]
    if not ids:
        return Counter()
    inside, parameters = is_any_of(connection, "step_id", ids)
    passed = execute(readmit_sql(f"SELECT step_id FROM {_TICKET} WHERE {inside}"), parameters)  # noqa: S608 - as above
    Step.objects.filter(pk__in=ids).update(slot=key)
    return Counter(queue for _, queue in passed)


# --- rates -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Pace:
    """Where a limit stands in its even row of starts."""

    next_start_at: datetime | None
    """As stored."""
    first: datetime
    """When the first start was, or will be, due."""
    interval: timedelta
    due: int
    """How many starts are due by now."""

    def next_after(self, starts: int) -> datetime | None:
        """When the next start is allowed after that many."""
        return self.first + starts * self.interval if starts else self.next_start_at


def _pace(limit: Limit) -> _Pace | None:
    if limit.starts is None or limit.period is None:
        return None
    # A statement of its own: beside FOR UPDATE the time would be that from before the wait for the lock.
    now = Limit.objects.filter(pk=limit.pk).annotate(now=Now()).values_list("now", flat=True).get()
    interval = max(timedelta(seconds=limit.period / limit.starts), timedelta.resolution)
    # After a start the next one is an interval away at most; more is left over from a slower rate, or from a clock that
    # was set back.
    next_start_at = min(limit.next_start_at, now + interval) if limit.next_start_at else None
    # Only for steps that waited is a missed start made up; after a pause there is no burst.
    earliest = now - LATE if limit.wakes_at else now
    first = max(next_start_at, earliest) if next_start_at else now
    due = (now - first) // interval + 1 if first <= now else 0
    return _Pace(next_start_at, first, interval, due)


# --- planning ----------------------------------------------------------------------------------------------------


def _limit(key: str, most: int | None, rate: Rate | None) -> Limit:
    if rate is None:
        return Limit(key=key, most=most)
    return Limit(key=key, most=most, starts=rate.starts, period=rate.per.total_seconds())


def _differs(known: Limit, declared: Limit) -> bool:
    numbers = (known.most, known.starts, known.period)
    return numbers != (declared.most, declared.starts, declared.period) or (
        declared.declared_at - known.declared_at > REMEMBERED
    )
