"""Effects: what follows from a change of steps and plans, gathered until the transaction is concluded.

Every function of the ledger that changes something takes the transaction's `Effects` and notes there what others have
to do about it, or to hear of; `concluding.conclude` then does it, once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import UUID

from dynflow_app.messages import Outcome
from dynflow_app.states import PlanResult, PlanState


class BecameReady(NamedTuple):
    """A step that became ready."""

    step_id: int
    plan_id: UUID
    queue: str
    throttled_by: str | None
    """The limit that keeps it back for now."""
    has_timer: bool = False
    """Whether it may wait for a limited time only."""


class Settled(NamedTuple):
    """How a plan came to rest."""

    state: PlanState
    result: PlanResult


@dataclass(slots=True)
class Effects:
    """What one transaction, or several, did."""

    active: Counter[UUID] = field(default_factory=Counter)
    """Change in the number of active steps, by plan."""
    ready: Counter[str] = field(default_factory=Counter)
    """Queue to the number of steps that can be claimed now."""
    limits: set[str] = field(default_factory=set)
    """Keys of limits that may let steps pass now."""
    to_decide: set[UUID] = field(default_factory=set)
    """Plans about which the orchestrator has to decide, whatever their number of active steps."""
    to_start: set[UUID] = field(default_factory=set)
    """Plans that may be able to start now."""
    to_unlock: set[UUID] = field(default_factory=set)
    """Plans with locks that are to be unlocked."""
    rested: Counter[tuple[int, str]] = field(default_factory=Counter)
    """Sub-plans that stopped or paused, by step of the parent and result."""
    rings_orchestrator: bool = False
    """Whether an envelope was written, or a timer set: the orchestrator has to look when it is due next."""
    settled: dict[UUID, Settled] = field(default_factory=dict)
    """Plans that stopped or paused."""
    refused: list[Outcome] = field(default_factory=list)
    """Outcomes that came too late."""
    failed: list[Outcome] = field(default_factory=list)
    dropped: Counter[int] = field(default_factory=Counter)
    """Ended steps to the number of events that nobody will handle."""

    def became_ready(self, rows: Iterable[BecameReady], *, is_new: bool) -> None:
        """Note steps that became ready; `is_new` if they were not active before."""
        for row in rows:
            if is_new:
                self.active[row.plan_id] += 1
            self.rings_orchestrator |= row.has_timer
            if row.throttled_by is None:
                self.ready[row.queue] += 1
            else:
                self.limits.add(row.throttled_by)

    def ended(self, plan_ids: Iterable[UUID]) -> None:
        """Note that one step of each of these plans, with repetitions, is not active any more."""
        self.active.subtract(plan_ids)

    def add(self, other: Effects) -> None:
        """Count in what another transaction did, which was concluded."""
        self.ready += other.ready
        self.rings_orchestrator |= other.rings_orchestrator
        self.settled |= other.settled
        self.refused += other.refused
        self.failed += other.failed
        self.dropped += other.dropped
