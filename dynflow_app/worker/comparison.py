"""Comparison: now and then, and after every outage, what one worker has in hand is compared with what the ledger says.

They differ where a reply was lost, or where somebody took steps from a worker that was silent for too long. A step that
the ledger believes to be here, and that is not, is handed back; code of a step that somebody else has by now is ended.
The same look finds ready steps whose bell nobody heard, so that a worker goes on without Redis.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from django.db import transaction

from dynflow_app import clock
from dynflow_app.ledger.comparing import Belief, look, taken_back
from dynflow_app.ledger.effects import Effects
from dynflow_app.ledger.recovery import reclaim
from dynflow_app.models import World
from dynflow_app.models.base import ledger_alias
from dynflow_app.worker.invocation import Invocation

_log = logging.getLogger("dynflow_app.worker")

INTERVAL = 5.0
"""Seconds between comparisons, give or take a fifth, so that workers that started together do not stay together."""


@dataclass(frozen=True, slots=True)
class Healed:
    """What came of a comparison."""

    is_anything_ready: bool
    effects: Effects = field(default_factory=Effects)
    """Of what was handed back."""
    taken_back: Sequence[Invocation] = ()
    """What runs here in vain."""


class Comparison:
    """Knows when it is time for another one. Used by the pump's thread only, which is the only one that claims."""

    def __init__(self, world: World, queues: Sequence[str] | None) -> None:
        self._world = world
        self._queues = queues
        self._due = 0.0
        self._put_off()

    @property
    def is_due(self) -> bool:
        """Whether it is time."""
        return clock.monotonic() >= self._due

    def doubt(self) -> None:
        """It is time: a reply may have been lost."""
        self._due = 0.0

    def make(self, invocations: Mapping[int, Invocation]) -> Healed:
        """Compare, and hand back what is not here. Raises what the database raises; then it stays due."""
        belief = look(self._world.pk, self._queues)
        here = {(step_id, invocation.step.attempt) for step_id, invocation in invocations.items()}
        effects = self._hand_back([step_id for step_id, _ in belief.running - here])
        vain = self._in_vain(belief, invocations)
        self._put_off()
        return Healed(belief.is_anything_ready or bool(effects.ready), effects, vain)

    def _hand_back(self, step_ids: Sequence[int]) -> Effects:
        """Their code has not begun: the claim is all that took place."""
        if not step_ids:
            return Effects()
        with transaction.atomic(using=ledger_alias()):
            taken = reclaim(self._world.pk, worker=str(self._world), started=frozenset(), only=step_ids, waits=False)
        if not taken.handed_back:  # somebody has locked their plans; the next comparison finds them again
            return taken.effects
        _log.warning(
            "%s handed back %d steps that the ledger believed to run here: the reply to their claim was lost",
            self._world, taken.handed_back, extra={"action": "strays_handed_back", "steps": step_ids[:100]},
        )  # fmt: skip
        return taken.effects

    def _in_vain(self, belief: Belief, invocations: Mapping[int, Invocation]) -> list[Invocation]:
        had = [
            (step_id, invocation.step.attempt)
            for step_id, invocation in invocations.items()
            if not invocation.is_over and (step_id, invocation.step.attempt) not in belief.running
        ]
        lost = taken_back(had) if had else []
        if lost:
            _log.warning(
                "%s ends the code of %d steps that were taken from it while it was silent",
                self._world, len(lost), extra={"action": "taken_back", "steps": lost[:100]},
            )  # fmt: skip
        return [invocations[step_id] for step_id in lost]

    def _put_off(self) -> None:
        self._due = clock.monotonic() + INTERVAL * random.uniform(0.8, 1.2)  # noqa: S311 - no secret
