"""Processes in the admin."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.utils.translation import gettext_lazy as _

from dynflow_app import clock
from dynflow_app.admin import formats
from dynflow_app.admin.badges import SILENT, world_badge
from dynflow_app.admin.base import ReadOnlyAdmin
from dynflow_app.conf import settings
from dynflow_app.models import World
from dynflow_app.states import WorldState


@admin.register(World)
class WorldAdmin(ReadOnlyAdmin):
    """Processes that lead or run steps, the latest first."""

    list_display = ("host", "pid", "kind", "queue_names", "state_badge", "heartbeat", "resident", "started", "version")
    list_filter = ("kind", "state")
    ordering = ("-started_at", "-id")
    search_fields = ("host__startswith",)
    search_help_text = _("The beginning of a host name.")
    fields = (
        "id", "kind", "host", "pid", "queue_names", "state_badge", "heartbeat", "resident", "started", "version",
    )  # fmt: skip
    readonly_fields = ("id", "queue_names", "state_badge", "heartbeat", "resident", "started")

    @admin.display(description=_("queues"))
    def queue_names(self, world: World) -> str:
        """Queues in order of preference."""
        return ", ".join(map(str, world.queues)) or formats.EMPTY

    @admin.display(description=_("state"))
    def state_badge(self, world: Any) -> str:
        """What it says of itself, unless it has been silent for too long."""
        silent = clock.now() - world.heartbeat_at > timedelta(seconds=settings.WORLD_TIMEOUT)
        badge = SILENT if silent and world.state != WorldState.INVALIDATED else world_badge(world.state)
        return badge.__html__()

    @admin.display(description=_("heartbeat"))
    def heartbeat(self, world: World) -> str:
        """Age of the last sign of life."""
        return formats.moment(world.heartbeat_at)

    @admin.display(description=_("memory"))
    def resident(self, world: World) -> str:
        """Resident size."""
        return formats.size(world.memory)

    @admin.display(description=_("started"))
    def started(self, world: World) -> str:
        """When it registered."""
        return formats.moment(world.started_at)
