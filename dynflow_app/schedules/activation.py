"""Activation: whether a schedule waits for a due time, is paused, or has ended. Whoever acts has locked it first."""

from __future__ import annotations

from datetime import UTC, datetime

from dynflow_app import clock
from dynflow_app.models import Occurrence, Schedule
from dynflow_app.models.base import ledger_alias


def activate(schedule: Schedule) -> None:
    """Let a locked or new schedule wait for its next due time from now, or for the one that is due already; or end if
    it has none. Saves it.

    Raises `IntegrityError` if another active one has its purpose.
    """
    now, before = clock.now(), before_next(schedule)
    is_due = before is not None and before < now and next(schedule.times(before), None) == schedule.due_at
    later = schedule.occurrences.filter(due_at__gt=now) if schedule.pk else Occurrence.objects.none()
    decided = set(later.values_list("due_at", flat=True))  # such as one that was skipped
    schedule.wake()
    schedule.await_next(before if is_due and before else now)
    while schedule.due_at in decided:
        schedule.await_next(schedule.due_at)
    schedule.save(using=ledger_alias())


def before_next(schedule: Schedule) -> datetime | None:
    """The last moment before the coming due time; None if there is none."""
    return schedule.due_at and (schedule.due_at - datetime.resolution).astimezone(UTC)
