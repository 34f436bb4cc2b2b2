"""What a sweep has to look for: whether there is anything at all that somebody may have forgotten. One statement."""

from __future__ import annotations

from typing import NamedTuple

from dynflow_app.models import ExecutionPlan, ResourceLock, SubPlans, Ticket
from dynflow_app.models.base import execute
from dynflow_app.models.ticket import CLAIMABLE_SQL


class Left(NamedTuple):
    """What there is."""

    has_ready: bool
    """Steps that can be claimed."""
    has_throttled: bool
    has_live: bool
    """Plans of which no step is active, and which have not stopped."""
    has_waiting_parents: bool
    """Steps that wait for sub-plans."""
    has_locks: bool
    """Locks that are held or waited for."""


_QUESTIONS = (
    f"SELECT 1 FROM {Ticket._meta.db_table} WHERE {CLAIMABLE_SQL}",  # noqa: S608 - names are ours
    f"SELECT 1 FROM {Ticket._meta.db_table} WHERE throttled_by IS NOT NULL",  # noqa: S608 - as above
    f"SELECT 1 FROM {ExecutionPlan._meta.db_table} WHERE state <> 'stopped' AND active_steps = 0",  # noqa: S608 - as above
    f"SELECT 1 FROM {SubPlans._meta.db_table} WHERE wakes_below IS NOT NULL",  # noqa: S608 - as above
    f"SELECT 1 FROM {ResourceLock._meta.db_table} WHERE state <> 'unlocked'",  # noqa: S608 - as above
)


def look() -> Left:
    """Look once."""
    return Left(*map(bool, execute("SELECT " + ", ".join(f"EXISTS ({each})" for each in _QUESTIONS))[0]))
