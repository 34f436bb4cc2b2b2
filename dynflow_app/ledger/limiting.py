"""Limits: steps with a limit's key are held when they become ready, and admitted as the limit allows.

A slot is taken by every step of the key that is ready and not held, running or suspended. So slots need no counter that
could drift: they are counted when it matters, under the lock of the limit's row.

Why no wake-up is lost: whoever makes steps held, or ends steps, calls `admit` afterwards in the same transaction, and
the lock is kept until the commit. So of two such transactions the second counts only when all of the first can be seen
(READ COMMITTED: each statement sees what was committed before it began). Neither has to see the other's work early.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import QuerySet
from django.db.models.functions import Now

from dynflow_app.actions.base import BaseAction
from dynflow_app.actions.rate import Rate
from dynflow_app.actions.sub_plans import SubPlansAction
from dynflow_app.exceptions import PlanningError
from dynflow_app.models import Limit, Step
from dynflow_app.models.base import is_postgresql, ledger_connection
from dynflow_app.payloads.json import REFERENCE_KEY
from dynflow_app.states import StepState

LONGEST_KEY = 255
MOST_AT_ONCE = 2**31 - 1
LATE = timedelta(seconds=2)
"""By how much the orchestrator may look at waiting steps too late without slowing down their pace; what was missed
meanwhile starts at once."""
REMEMBERED = timedelta(days=1)
"""How exactly it is known when a limit was last declared."""
_ALL = 2**63 - 1
_STEP = Step._meta.db_table
_LIMIT = Limit._meta.db_table
_TAKE_A_SLOT = (StepState.READY, StepState.RUNNING, StepState.SUSPENDED)


def admit(keys: Collection[str]) -> Counter[str]:
    """Let held steps of each key pass as its limit allows, by priority, then the oldest; returns queue to number.

    In the caller's transaction, after everything else that waits for locks, and once, with all its keys: the locks of
    the limits come last, in the order of the keys. A key without limit lets everything pass.
    """
    admitted: Counter[str] = Counter()
    for key in sorted(set(keys)):
        admitted += _admit(key)
    return admitted


def due_limits(limit: int) -> list[str]:
    """Up to `limit` keys whose rate allows a held step to start by now, by the database's clock; the oldest first."""
    return list(Limit.objects.filter(wakes_at__lte=Now()).order_by("wakes_at").values_list("key", flat=True)[:limit])


def keys_with_held_steps() -> list[str]:
    """Keys that hold steps back though they need not: they have room, and nothing to wait for. Usually none."""
    sql = f"""
        SELECT held.limit_key FROM (
            SELECT DISTINCT limit_key FROM {_STEP} WHERE limit_key IS NOT NULL AND is_held AND state = 'ready'
        ) AS held LEFT JOIN {_LIMIT} ON {_LIMIT}.key = held.limit_key
        WHERE {_LIMIT}.wakes_at IS NULL AND ({_LIMIT}.most IS NULL OR {_LIMIT}.most > (
            SELECT COUNT(*) FROM {_STEP} AS taken WHERE taken.limit_key = held.limit_key
            AND NOT taken.is_held AND taken.state IN ('ready', 'running', 'suspended')
        ))
    """  # noqa: S608 - names are ours
    with ledger_connection().cursor() as cursor:
        cursor.execute(sql)
        return [row[0] for row in cursor.fetchall()]


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


def limit_key_of(action_class: type[BaseAction], name: str, given: Mapping[str, Any]) -> str | None:
    """The key by which steps of this action, planned with the input `given` (as stored), are limited; None if they are
    not. Without ``concurrency_key`` all steps of the action share its `name`. Raises `PlanningError`."""
    if issubclass(action_class, SubPlansAction):
        return None  # its limit is one on its sub-plans
    most = action_class.concurrency_limit
    if most is not None and (type(most) is not int or not 1 <= most <= MOST_AT_ONCE):
        raise PlanningError(f"{name}.concurrency_limit is {most!r}; give a whole number from 1, or None for no limit.")
    if action_class.concurrency_key is None:
        return None if most is None and action_class.rate_limit is None else name
    key = _KeyFormatter(name, action_class.sensitive).made(action_class.concurrency_key, given)
    if len(key) > LONGEST_KEY:
        raise PlanningError(
            f"The concurrency_key of {name} has {len(key)} characters ({key[:40]!r}...), more than {LONGEST_KEY}. "
            "Use a shorter part of the input, such as an id."
        )
    return key


# --- admission ---------------------------------------------------------------------------------------------------


def _admit(key: str) -> Counter[str]:
    limit = Limit.objects.select_for_update(no_key=True).filter(pk=key).first()
    if limit is None:
        return _let_pass(key, _ALL)
    room = _ALL if limit.most is None else max(0, limit.most - _taken(key, limit.most))
    pace = _pace(limit)
    passed = _let_pass(key, min(room, pace.due) if pace else room)
    next_start_at = pace.next_after(passed.total()) if pace else None
    wakes_at: datetime | Now | None = None
    if passed.total() < room and _held(key).exists():
        # The pace holds them back; or another transaction has locked them, and need not call admit when it ends.
        wakes_at = next_start_at or Now()
    if (next_start_at, wakes_at) != (limit.next_start_at, limit.wakes_at):
        Limit.objects.filter(pk=key).update(next_start_at=next_start_at, wakes_at=wakes_at)
    return passed


def _taken(key: str, most: int) -> int:
    """How many slots are taken; counts no further than `most`."""
    taken = Step.objects.filter(limit_key=key, is_held=False, state__in=_TAKE_A_SLOT)
    return taken.order_by()[:most].count()


def _held(key: str) -> QuerySet[Step]:
    return Step.objects.filter(limit_key=key, is_held=True, state=StepState.READY)


def _let_pass(key: str, number: int) -> Counter[str]:
    if not number:
        return Counter()
    connection = ledger_connection()
    # Whoever has locked a step may be waiting for our limit, so such steps are passed over. The weaker lock does not
    # mind new rows that merely refer to the step, such as an event just sent to it.
    passing = "FOR NO KEY UPDATE SKIP LOCKED" if is_postgresql(connection) else ""
    sql = f"""
        WITH picked AS MATERIALIZED (
            SELECT id AS picked_id FROM {_STEP} WHERE limit_key = %s AND is_held AND state = 'ready'
            ORDER BY priority DESC, id LIMIT %s {passing}
        )
        UPDATE {_STEP} SET is_held = FALSE FROM picked WHERE {_STEP}.id = picked.picked_id RETURNING queue
    """  # noqa: S608 - names are ours
    with connection.cursor() as cursor:
        cursor.execute(sql, [key, number])
        return Counter(row[0] for row in cursor.fetchall())


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


class _KeyFormatter(string.Formatter):
    """Fills an input's values into a concurrency_key; refuses values that are secret, or not known yet."""

    def __init__(self, name: str, sensitive: Collection[str]) -> None:
        self._name = name
        self._sensitive = frozenset(sensitive)

    def made(self, pattern: str, given: Mapping[str, Any]) -> str:
        try:
            return self.vformat(pattern, (), given)
        except (LookupError, AttributeError, TypeError, ValueError) as error:
            raise PlanningError(
                f"The concurrency_key {pattern!r} of {self._name} cannot be made from its input "
                f"({type(error).__name__}: {error}). It may name keys that every input has: "
                f"this one has {', '.join(sorted(given)) or 'none'}."
            ) from error

    def get_field(self, field_name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        if not self._sensitive.isdisjoint(re.split(r"[\[\].]", field_name)):
            raise PlanningError(
                f"The concurrency_key of {self._name} uses {field_name!r}, which is sensitive, but keys are stored and "
                "shown as they are. Use another part of the input."
            )
        return super().get_field(field_name, args, kwargs)

    def get_value(self, key: int | str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        value = super().get_value(key, args, kwargs)
        if _holds_reference(value):
            raise PlanningError(
                f"The concurrency_key of {self._name} uses {key!r}, which is the output of another step. "
                "A key can only use values that are known when the action is planned."
            )
        return value


def _holds_reference(value: Any) -> bool:
    if isinstance(value, dict):
        return REFERENCE_KEY in value or any(map(_holds_reference, value.values()))
    return isinstance(value, list) and any(map(_holds_reference, value))
