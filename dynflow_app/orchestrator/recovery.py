"""Duty: declare silent worlds dead and take their steps back.

Two looks are needed: a world is suspected when its heartbeat is older than ``WORLD_TIMEOUT`` by the database's clock,
and invalidated when a later look finds the same heartbeat. So an outage of the database, during which nobody could
beat, costs nobody their steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import Exists, OuterRef, Q
from django.db.models.functions import Now

from dynflow_app import probes
from dynflow_app.conf import settings
from dynflow_app.ledger.recovery import reclaim_all
from dynflow_app.ledger.sessions import end_sessions_of
from dynflow_app.models import Term, Ticket, World
from dynflow_app.signals import announce, world_invalidated
from dynflow_app.states import WorldState

KEEP_INVALIDATED = timedelta(hours=1)


@dataclass(slots=True)
class Recovered:
    """What one look found."""

    worlds: int = 0
    steps: int = 0


class Recovery:
    """Remembers whom it suspects. Forgetting that, in a new process, only costs one more look."""

    def __init__(self) -> None:
        self._suspects: dict[UUID, datetime] = {}

    def run_once(self, term: Term) -> Recovered:
        """Invalidate worlds that stayed silent, and reclaim whatever steps invalidated worlds still have."""
        recovered = Recovered()
        gone, silent = self._look()
        for world in silent:
            if self._invalidate(term, world):
                recovered.worlds += 1
                gone.append(world)
        for world in gone:
            recovered.steps += self._reclaim_all(term, world)
        return recovered

    def _look(self) -> tuple[list[World], list[World]]:
        """Worlds that are gone and still have steps, and those that have been silent for two looks. One query."""
        limit = Now() - timedelta(seconds=settings.WORLD_TIMEOUT)
        is_gone = Q(_has_running_steps(), state=WorldState.INVALIDATED)
        found = World.objects.filter(is_gone | ~Q(state=WorldState.INVALIDATED) & Q(heartbeat_at__lt=limit))
        gone: list[World] = []
        silent: list[World] = []
        for world in found:
            (gone if world.state == WorldState.INVALIDATED else silent).append(world)
        confirmed = [world for world in silent if self._suspects.get(world.pk) == world.heartbeat_at]
        self._suspects = {world.pk: world.heartbeat_at for world in silent}
        return gone, confirmed

    def _invalidate(self, term: Term, world: World) -> int:
        with term.transaction():
            moved = World.objects.filter(pk=world.pk, heartbeat_at__lte=world.heartbeat_at).invalidate()
        probes.reached(probes.Probe.WORLD_INVALIDATED)
        if moved:
            end_sessions_of(world.pk)
        return moved

    def _reclaim_all(self, term: Term, world: World) -> int:
        taken = reclaim_all(world, term.transaction)
        announce(
            world_invalidated, World, world_id=world.pk, worker=str(world), lost=taken.lost,
            handed_back=taken.handed_back,
        )  # fmt: skip
        return taken.lost + taken.handed_back


def forget_old_worlds(term: Term) -> int:
    """Delete worlds that were invalidated long ago and have no steps; returns how many."""
    with term.transaction():
        old = World.objects.filter(state=WorldState.INVALIDATED, heartbeat_at__lt=Now() - KEEP_INVALIDATED)
        return old.exclude(_has_running_steps()).delete()[0]


def _has_running_steps() -> Exists:
    return Exists(Ticket.objects.filter(world=OuterRef("pk")))
