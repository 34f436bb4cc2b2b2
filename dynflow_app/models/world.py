"""Worlds: registered processes and their heartbeats."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from dynflow_app import clock
from dynflow_app.models.base import LedgerManager, LedgerQuerySet, ledger_alias, uuid7
from dynflow_app.states import WORLD_TRANSITIONS, WorldState, require_legal


class WorldKind(models.TextChoices):
    """What a registered process does."""

    ORCHESTRATOR = "orchestrator", _("orchestrator")
    WORKER = "worker", _("worker")
    EXECUTOR = "executor", _("in-process executor")


class WorldQuerySet(LedgerQuerySet["World"]):
    """Processes in bulk."""

    transitions = WORLD_TRANSITIONS

    def alive(self) -> WorldQuerySet:
        """Worlds that nobody declared dead."""
        return self.exclude(state=WorldState.INVALIDATED)

    def beat(self, memory: int | None = None) -> int:
        """Say that these are alive, by the database's clock; returns how many still count as alive."""
        return self.alive().update(heartbeat_at=Now(), memory=memory)

    def invalidate(self) -> int:
        """Declare these dead: they get no steps any more, and what they have is taken from them."""
        return self._move([WorldState.ACTIVE], WorldState.INVALIDATED)


class World(models.Model):
    """One running process that leads or claims steps. A worker has one for each of its children."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    kind = models.CharField(_("kind"), max_length=16, choices=WorldKind.choices)
    state = models.CharField(_("state"), max_length=16, choices=WorldState.choices, default=WorldState.ACTIVE)
    host = models.CharField(_("host"), max_length=255)
    pid = models.PositiveIntegerField(_("process id"))
    queues = models.JSONField(_("queues"), default=list, blank=True)
    version = models.CharField(_("version"), max_length=64, blank=True)
    memory = models.BigIntegerField(_("memory"), null=True, blank=True, help_text=_("Resident size in bytes."))
    started_at = models.DateTimeField(_("started at"), default=clock.now)
    heartbeat_at = models.DateTimeField(_("heartbeat at"), db_default=Now())
    looked_at = models.DateTimeField(
        _("looked at"), null=True, blank=True, help_text=_("When it last compared what it has with the ledger.")
    )

    objects = LedgerManager.from_queryset(WorldQuerySet)()

    class Meta:
        verbose_name = _("world")
        verbose_name_plural = _("worlds")
        ordering = ("started_at",)

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}"

    def come_back(self) -> None:
        """Write this world anew: somebody declared it dead, and perhaps forgot it, but it lives."""
        require_legal(WORLD_TRANSITIONS, [WorldState.INVALIDATED], WorldState.ACTIVE)
        self.state, self.heartbeat_at = WorldState.ACTIVE, clock.now()
        self.save(using=ledger_alias())
