"""Duty: declare silent worlds dead and take their steps back.

Two looks are needed: a world is suspected when its heartbeat is older than ``WORLD_TIMEOUT`` by the database's clock,
and invalidated when a later look finds the same heartbeat. So an outage of the database, during which nobody could
beat, costs nobody their steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import Exists, OuterRef
from django.db.models.functions import Now

from dynflow_app import probes
from dynflow_app.conf import settings
from dynflow_app.ledger.recovery import reclaim_all
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
        for world in self._silent():
            recovered.worlds += self._invalidate(term, world)
        for world in self._with_steps():
            recovered.steps += self._reclaim_all(term, world)
        return recovered

    def _silent(self) -> list[World]:
        limit = Now() - timedelta(seconds=settings.WORLD_TIMEOUT)
        silent = list(World.objects.alive().filter(heartbeat_at__lt=limit))
        confirmed = [world for world in silent if self._suspects.get(world.pk) == world.heartbeat_at]
        self._suspects = {world.pk: world.heartbeat_at for world in silent}
        return confirmed

    def _with_steps(self) -> list[World]:
        return list(World.objects.filter(state=WorldState.INVALIDATED).filter(_has_running_steps()))

    def _invalidate(self, term: Term, world: World) -> int:
        with term.transaction():
            moved = World.objects.filter(pk=world.pk, heartbeat_at__lte=world.heartbeat_at).invalidate()
        probes.reached(probes.Probe.WORLD_INVALIDATED)
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
