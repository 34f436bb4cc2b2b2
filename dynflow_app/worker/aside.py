"""Aside: outcomes of plans whose rows somebody else has locked. They wait with a growing pause; all others go on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dynflow_app import clock
from dynflow_app.ledger.blocked import free_plans, pause_after
from dynflow_app.messages import Outcome


class Aside:
    """Those of one worker."""

    def __init__(self) -> None:
        self._outcomes: list[Outcome] = []
        self._since = self._look_at = 0.0

    def __len__(self) -> int:
        return len(self._outcomes)

    def sort_out(self, outcomes: Sequence[Outcome]) -> list[Outcome]:
        """Keep the outcomes of plans that are blocked; returns the others. One query."""
        free = free_plans({outcome.plan_id for outcome in outcomes})
        blocked = [outcome for outcome in outcomes if outcome.plan_id not in free]
        if blocked and not self._outcomes:
            self._since = clock.monotonic()
        self._keep([*self._outcomes, *blocked])
        return [outcome for outcome in outcomes if outcome.plan_id in free]

    def due(self) -> list[Outcome]:
        """Those whose plans are free by now, if it is time to look."""
        if not self._outcomes or clock.monotonic() < self._look_at:
            return []
        free = free_plans({outcome.plan_id for outcome in self._outcomes})
        due = [outcome for outcome in self._outcomes if outcome.plan_id in free]
        self._keep(outcome for outcome in self._outcomes if outcome.plan_id not in free)
        return due

    def _keep(self, outcomes: Iterable[Outcome]) -> None:
        self._outcomes = list(outcomes)
        self._look_at = clock.monotonic() + pause_after(clock.monotonic() - self._since)
