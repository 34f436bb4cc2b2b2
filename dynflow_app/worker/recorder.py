"""Writes what the pump gathered: pieces of log, progress and outcomes, whatever users put into them; and claims."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db import DatabaseError, transaction

from dynflow_app import clock
from dynflow_app.ledger import turning
from dynflow_app.ledger.claiming import claim, outputs_for
from dynflow_app.ledger.effects import Effects
from dynflow_app.ledger.recording import record
from dynflow_app.ledger.saying import write_log, write_progress
from dynflow_app.messages import Claimed, EndedAs, Outcome
from dynflow_app.models import World
from dynflow_app.models.base import is_outage, ledger_alias
from dynflow_app.payloads.errors import describe
from dynflow_app.states import StepState
from dynflow_app.worker.inbox import LogPiece, Progress

PASSES_FOR = 30.0
"""Seconds after somebody's lock was in the way until a claim expects none again."""


@dataclass(slots=True)
class Written:
    """What is to be written in one turn."""

    outcomes: list[Outcome] = field(default_factory=list)
    pieces: list[LogPiece] = field(default_factory=list)
    progress: dict[int, Progress] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.outcomes or self.pieces or self.progress)


@dataclass(slots=True)
class Turned:
    """What one turn brought."""

    effects: Effects
    claimed: list[Claimed]
    outputs: Mapping[Any, dict[int, Any]]
    """Plan to what the inputs of claimed steps refer to."""


class Recorder:
    """The writing hand of one worker."""

    def __init__(self, world: World, queues: Sequence[str] | None) -> None:
        self._world = world
        self._queues = queues
        self._bounds = turning.Bounds()
        self.is_careful = False
        """Whether each outcome is written behind a savepoint, since one of them cannot be stored."""
        self.seconds = 0.0
        """How long a turn takes."""
        self._passes_until = 0.0

    def turn(self, written: Written, limit: int) -> Turned:
        """Write it and claim up to `limit` steps, in one transaction. Raises what the database raises; then nothing
        was written."""
        began = clock.monotonic()
        turned = self._at_once(written.outcomes, limit) if self._is_common(written) else None
        turned = turned or self._one_after_the_other(written, limit)
        self.is_careful = False
        self.seconds += (clock.monotonic() - began - self.seconds) * 0.3
        return turned

    def pass_locked(self) -> None:
        """For a while, take the way that passes steps which somebody else has locked."""
        self._passes_until = clock.monotonic() + PASSES_FOR

    def _is_common(self, written: Written) -> bool:
        if written.pieces or written.progress or self.is_careful or self._queues is None:
            return False
        if clock.monotonic() < self._passes_until:
            return False
        return turning.can_turn(written.outcomes)

    def _at_once(self, outcomes: Sequence[Outcome], limit: int) -> Turned | None:
        """In one round trip; None if there is something unusual about them."""
        try:
            effects, claimed = turning.turn(
                outcomes, worker=str(self._world), world_id=self._world.pk, queues=self._queues or (), limit=limit,
                bounds=self._bounds,
            )  # fmt: skip
        except turning.UnusualError:
            return None
        return Turned(effects, claimed, outputs_for(claimed))

    def _one_after_the_other(self, written: Written, limit: int) -> Turned:
        worker = str(self._world)
        write = record_singly if self.is_careful else record_together
        with transaction.atomic(using=ledger_alias()):
            write_log((piece.step.action_id, piece.step.attempt, piece.text) for piece in written.pieces)
            effects = write(written.outcomes, worker)
            write_progress((each.step_id, each.attempt, each.done) for each in written.progress.values())
            claimed = claim(self._world.pk, self._queues, limit, worker=worker) if limit else []
            return Turned(effects, claimed, outputs_for(claimed))


def record_together(outcomes: Sequence[Outcome], worker: str) -> Effects:
    """Record `outcomes` in the caller's transaction; none is fine."""
    return record(outcomes, worker=worker) if outcomes else Effects()


def record_singly(outcomes: Iterable[Outcome], worker: str) -> Effects:
    """Record `outcomes`, each behind a savepoint; one that the database refuses to store becomes an error.

    Raises DatabaseError if the database is away.
    """
    total = Effects()
    for outcome in outcomes:
        total.add(_record_alone(outcome, worker))
    return total


def _record_alone(outcome: Outcome, worker: str) -> Effects:
    try:
        with transaction.atomic(using=ledger_alias()):
            return record([outcome], worker=worker)
    except DatabaseError as error:
        if is_outage(error):
            raise
        outcome.state, outcome.ended_as = StepState.ERROR, EndedAs.FAILED
        outcome.output, outcome.input, outcome.error = None, None, describe(error)
        return record([outcome], worker=worker)
