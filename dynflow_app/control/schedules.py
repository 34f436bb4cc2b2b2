"""Verbs for schedules: make, pause, resume, run now, skip the next, preview. Each is one transaction, or part of the
caller's, and locks the schedule."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from itertools import islice, takewhile
from typing import Any
from zoneinfo import ZoneInfo

from django.db import IntegrityError, transaction

from dynflow_app import clock
from dynflow_app.actions.base import BaseAction
from dynflow_app.control.common import ring_orchestrator_after_commit
from dynflow_app.engine.timing import Timing
from dynflow_app.exceptions import WrongStateError
from dynflow_app.models import ExecutionPlan, Schedule
from dynflow_app.models.base import ledger_alias
from dynflow_app.models.schedule import FOREVER
from dynflow_app.schedules.activation import activate, before_next
from dynflow_app.schedules.occurrences import Decisions
from dynflow_app.schedules.validating import columns, require_valid
from dynflow_app.states import OccurrenceOutcome, ScheduleState


def make_schedule(
    action_class: type[BaseAction], timing: Timing, *, label: str = "", by: Any = "", reason: str = ""
) -> Schedule:
    """A schedule beside those that code declares: plans of `action_class` at the times of `Every` or `Cron`.

    Raises ValidationError, with a message for each wrong column, and `WrongStateError` if its purpose is taken.
    """
    schedule = Schedule(**columns(action_class, timing), label=label)
    save_schedule(schedule, by=by, reason=reason)
    return schedule


def save_schedule(schedule: Schedule, *, by: Any = "", reason: str = "") -> None:
    """Save a schedule whose columns were changed, or a new one; if it is not paused its next occurrence is found anew.

    Raises ValidationError, with a message for each wrong column, and `WrongStateError` if its purpose is taken.
    """
    require_valid(schedule)
    with transaction.atomic(using=ledger_alias()):
        if schedule.pk:
            now = _lock(schedule)
            for name in ("fired", "decided", "state", "due_at", "next_at", "changed_by", "reason"):
                setattr(schedule, name, getattr(now, name))
        if schedule.state == ScheduleState.PAUSED:  # as is the reason for that
            schedule.save(using=ledger_alias())
        else:
            schedule.changed_by, schedule.reason = str(by)[:255], reason
            _activate(schedule)
            ring_orchestrator_after_commit()


def pause_schedule(schedule: Schedule, *, by: Any = "", reason: str = "") -> None:
    """Let nothing be due until `resume_schedule`. Plans that were made go on. Refreshes `schedule`.

    Raises `WrongStateError` unless it is active.
    """
    with transaction.atomic(using=ledger_alias()):
        locked = _lock(schedule)
        _require(locked, ScheduleState.ACTIVE, "paused")
        locked.pause(by=str(by), reason=reason)
    schedule.refresh_from_db()


def resume_schedule(schedule: Schedule, *, by: Any = "", reason: str = "") -> None:
    """Let a paused schedule go on with the next due time from now; those in between are forgotten. Refreshes
    `schedule`.

    Raises `WrongStateError` if it is active, has no due time left, or if another active one has its purpose.
    """
    with transaction.atomic(using=ledger_alias()):
        locked = _lock(schedule)
        if locked.state == ScheduleState.ACTIVE:
            raise WrongStateError(f"Schedule {locked.pk} is active already.", state=locked.state)
        locked.changed_by, locked.reason = str(by)[:255], reason
        _activate(locked)
        ring_orchestrator_after_commit()
        if locked.state == ScheduleState.ENDED:
            raise WrongStateError(
                f"Schedule {locked.pk} has no due time left: it has made {locked.fired} plans, its limit is "
                f"{locked.limit}, and it ends at {locked.ends_at}. Change these first.",
                state=locked.state,
            )
    schedule.refresh_from_db()


def run_now(schedule: Schedule, *, by: Any = "", reason: str = "") -> ExecutionPlan:
    """Make a plan now, beside the due times and not counted among them; whatever state the schedule is in.

    Raises `WrongStateError` if an earlier plan forbids it.
    """
    with transaction.atomic(using=ledger_alias()):
        locked = _lock(schedule)
        decisions = Decisions([locked])
        text = "run now" + (f": {reason}" if reason else "")
        occurrence = decisions.fire(locked, clock.now(), by=str(by) or "run now", reason=text)
        if occurrence.plan is None:
            raise WrongStateError(f"Schedule {locked.pk} cannot run now. {occurrence.reason}", state=locked.state)
        decisions.store()
        locked.save(update_fields=["decided"], using=ledger_alias())
        ring_orchestrator_after_commit()
    schedule.refresh_from_db()
    return occurrence.plan


def skip_next(schedule: Schedule, *, by: Any = "", reason: str = "") -> datetime:
    """Skip the coming occurrence; returns when it would have been due. Refreshes `schedule`.

    Raises `WrongStateError` unless it is active.
    """
    with transaction.atomic(using=ledger_alias()):
        locked = _lock(schedule)
        due_at = _require(locked, ScheduleState.ACTIVE, "skipped")
        decisions = Decisions([locked])
        text = f"skipped by {str(by) or 'an operator'}" + (f": {reason}" if reason else "")
        decisions.note(locked, due_at, OccurrenceOutcome.SKIPPED, text)
        decisions.store()
        locked.await_next(due_at)
        locked.save(using=ledger_alias())
    schedule.refresh_from_db()
    return due_at


def preview(schedule: Schedule | Timing, number: int = 10) -> list[datetime]:
    """The next due times, without jitter, in the zone of the schedule; from now if it is paused. Changes nothing.

    Raises ValueError for a timing that cannot be.
    """
    now = clock.now()
    times: Iterator[datetime]
    if isinstance(schedule, Timing):
        schedule.check()
        zone, end = getattr(schedule, "tz", "UTC"), schedule.end or FOREVER
        times = takewhile(lambda moment: moment <= end, schedule.times(now, schedule.start or now))
    else:
        zone, times = schedule.time_zone, schedule.times(before_next(schedule) or now)
    return [moment.astimezone(ZoneInfo(zone)) for moment in islice(times, number)]


def _activate(schedule: Schedule) -> None:
    """As `activate`, with an error for people."""
    try:
        with transaction.atomic(using=ledger_alias()):
            activate(schedule)
    except IntegrityError:
        other = Schedule.objects.filter(state=ScheduleState.ACTIVE, purpose=schedule.purpose).exclude(pk=schedule.pk)
        if not schedule.purpose or (holder := other.first()) is None:
            raise
        raise WrongStateError(
            f"The active schedule {holder.pk} ({holder}) has the purpose {schedule.purpose!r}. Pause it first.",
            state=ScheduleState.PAUSED,
        ) from None


def _lock(schedule: Schedule) -> Schedule:
    if not isinstance(schedule, Schedule):
        raise TypeError(f"This verb takes a Schedule, not {schedule!r}.")
    locked = Schedule.objects.filter(pk=schedule.pk).lock().first()
    if locked is None:
        raise WrongStateError(f"Schedule {schedule.pk} does not exist any more.", state=None)
    return locked


def _require(schedule: Schedule, state: ScheduleState, verb: str) -> datetime:
    """When the schedule is due next. Raises `WrongStateError` unless it is in `state`."""
    if schedule.state != state or schedule.due_at is None:
        raise WrongStateError(
            f"Schedule {schedule.pk} is {schedule.state} and cannot be {verb}; it would have to be {state}.",
            state=schedule.state,
        )
    return schedule.due_at
