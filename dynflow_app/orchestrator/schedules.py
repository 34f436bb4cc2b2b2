"""Schedules: act on due times, each at most once, whoever acts.

The row of a schedule says when it is due next; that column moves in the transaction that writes the plans and what
became of the due times. Its lock, the leader's term and a unique key on (schedule, due time) all stand in the way of
acting twice.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from itertools import islice, takewhile

from django.db.models.functions import Now

from dynflow_app import probes
from dynflow_app.engine.timing import last_times
from dynflow_app.exceptions import DynflowError, LostLeadershipError
from dynflow_app.models import Schedule, Term
from dynflow_app.models.base import is_outage
from dynflow_app.models.schedule import ScheduleQuerySet
from dynflow_app.schedules.occurrences import Decisions
from dynflow_app.states import Missed, OccurrenceOutcome, Overlap, ScheduleState

BATCH = 200
GRACE = timedelta(seconds=30)
"""A due time counts as missed, for ``Missed.SKIP``, when it is later than that: a hand-over takes less."""
MOST_AT_ONCE = 100
"""Due times of one schedule that are acted on, or noted as missed, in one transaction."""
_TICK = timedelta(microseconds=1)
_LATE = "Nobody was there at this time."

_log = logging.getLogger("dynflow_app.orchestrator")


def run_once(term: Term) -> int:
    """Act on a batch of schedules that are due; returns how many there were. Raises `LostLeadershipError`."""
    due = list(_due().values_list("pk", flat=True)[:BATCH])
    if not due:
        return 0
    try:
        return _act(term, due)
    except Exception as error:  # one of them is poison: find it, keep the others going
        if isinstance(error, LostLeadershipError) or is_outage(error):
            raise
        return _act_singly(term, due)


def _due() -> ScheduleQuerySet:
    return Schedule.objects.filter(state=ScheduleState.ACTIVE, next_at__lte=Now()).order_by("next_at", "pk")


def _act(term: Term, keys: list[int]) -> int:
    with term.transaction():
        locked = _due().filter(pk__in=keys).annotate(now=Now())
        schedules = list(locked.select_for_update(skip_locked=True, of=("self",), no_key=True))
        if not schedules:
            return 0
        decisions = Decisions(schedules)
        for schedule in schedules:
            _decide(schedule, vars(schedule)["now"], decisions)
        decisions.store()
        probes.reached(probes.Probe.SCHEDULES_FIRED)
        if Schedule.objects.move_on(schedules) != len(schedules):
            raise DynflowError("A schedule changed while it was locked.")
    return len(schedules)


def _decide(schedule: Schedule, now: datetime, decisions: Decisions) -> None:
    fire, missed, last = _sort_out(schedule, now)
    for moment, reason in missed:
        decisions.note(schedule, moment, OccurrenceOutcome.MISSED, reason)
    if missed:
        _log.warning(
            "due times missed: %d of schedule %s", len(missed), schedule.pk, extra={"action": "schedule_missed"}
        )
    if schedule.overlap == Overlap.CANCEL:  # each would cancel the one before
        for moment in fire[:-1]:
            decisions.note(schedule, moment, OccurrenceOutcome.SKIPPED, "A later one was due as well.")
        fire = fire[-1:]
    for moment in fire:
        decisions.fire(schedule, moment)
    schedule.await_next(last)


def _sort_out(schedule: Schedule, now: datetime) -> tuple[list[datetime], list[tuple[datetime, str]], datetime]:
    """The due times until `now` to act on, those that are missed with the reason, and the last of all."""
    first = schedule.due_at or now
    times = list(takewhile(lambda moment: moment <= now, islice(schedule.times(first - _TICK), 2)))
    if len(times) <= 1 and schedule.missed != Missed.SKIP:  # as ever
        return [first], [], first
    if schedule.missed == Missed.ALL:
        begin = max(first, now - max(schedule.window, GRACE)) - _TICK
        fire = list(takewhile(lambda moment: moment <= now, islice(schedule.times(begin), MOST_AT_ONCE)))
        missed = _last_times(schedule, begin)
        return fire, _reasons(missed, first), max([*fire, *missed, first])
    latest = _last_times(schedule, now)
    is_too_late = schedule.missed == Missed.SKIP and now - latest[-1] > GRACE + schedule.jitter
    fire = [] if is_too_late else latest[-1:]
    return fire, _reasons(latest if is_too_late else latest[:-1], first), latest[-1]


def _last_times(schedule: Schedule, until: datetime) -> list[datetime]:
    """The last due times from the coming one until `until`, not more than are noted."""
    first = schedule.due_at or until
    end = min(until, schedule.ends_at or until)
    if end < first:
        return []
    return last_times(schedule.timing, schedule.starts_at, first - _TICK, end, MOST_AT_ONCE) or [first]


def _reasons(missed: list[datetime], first: datetime) -> list[tuple[datetime, str]]:
    reasons = [(moment, _LATE) for moment in missed]
    if missed and missed[0] > first:
        reasons[0] = missed[0], f"{_LATE} Nor at any due time before, from {first:%Y-%m-%d %H:%M:%S %Z} on."
    return reasons


def _act_singly(term: Term, keys: list[int]) -> int:
    for key in keys:
        try:
            _act(term, [key])
        except Exception as error:
            if isinstance(error, LostLeadershipError) or is_outage(error):
                raise
            _set_aside(term, key, error)
    return len(keys)


def _set_aside(term: Term, key: int, error: Exception) -> None:
    with term.transaction():
        for schedule in Schedule.objects.filter(pk=key, state=ScheduleState.ACTIVE).lock():
            reason = f"It could not be acted on ({type(error).__name__}: {error}). Correct it, then resume it."
            schedule.pause(by="orchestrator", reason=reason)
    _log.error("schedule set aside", exc_info=error, extra={"action": "schedule_set_aside", "schedule": key})
