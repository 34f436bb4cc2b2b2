"""Registering a process as a world, keeping it alive in the ledger, and taking leave."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Sequence
from datetime import timedelta

from django.db import DatabaseError, InterfaceError, close_old_connections, connections
from django.db.migrations.executor import MigrationExecutor
from django.db.models.functions import Now

from dynflow_app import __version__
from dynflow_app.conf import settings
from dynflow_app.exceptions import DynflowError, SchemaOutdatedError
from dynflow_app.ledger.sessions import guarded_sessions
from dynflow_app.models import Ticket, World, WorldKind
from dynflow_app.models.base import ledger_alias
from dynflow_app.processes.memory import resident_bytes

_log = logging.getLogger("dynflow_app.processes")


def register(kind: WorldKind, queues: Sequence[str] = (), pid: int | None = None) -> World:
    """A new world for a process of this machine."""
    return World.objects.create(
        kind=kind, queues=list(queues), host=socket.gethostname(), pid=pid or os.getpid(), version=__version__,
        looked_at=Now(),
    )  # fmt: skip


def take_leave(world: World) -> None:
    """Remove a world that has no running step any more; one that still has some is left to recovery."""
    if not Ticket.objects.filter(world=world).exists():
        World.objects.filter(pk=world.pk).delete()


def require_schema() -> None:
    """Raise `SchemaOutdatedError` unless every migration of ours is applied."""
    executor = MigrationExecutor(connections[ledger_alias()])
    targets = [node for node in executor.loader.graph.leaf_nodes() if node[0] == "dynflow_app"]
    if executor.migration_plan(targets):
        raise SchemaOutdatedError


def require_no_other_way(kinds: Sequence[WorldKind]) -> None:
    """Raise `DynflowError` if a process of one of `kinds` is alive: one in-process executor, or the split services, may
    serve a database at the same time."""
    since = Now() - timedelta(seconds=settings.WORLD_TIMEOUT)
    for other in World.objects.alive().filter(kind__in=kinds, heartbeat_at__gt=since):
        if other.host == socket.gethostname() and not _exists(other.pid):
            continue  # it was killed a moment ago, on this machine
        raise DynflowError(
            f"An active {other.get_kind_display()} ({other}) serves this database. Stop it first, or set "
            "DYNFLOW['EXECUTOR'] the same for all processes."
        )


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


class Heartbeat:
    """Keeps one world alive from a thread of its own; for processes that have no supervisor."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dynflow-heartbeat", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; waits for the beat under way."""
        self._stop.set()
        self._thread.join(timeout=5)

    def _come_back(self) -> None:
        """Somebody declared us dead, after a long sleep perhaps. The steps we had are gone, and what we still report
        about them will be refused; but we may claim others."""
        self.world.come_back()
        _log.warning("%s is back: it had been declared dead", self.world, extra={"action": "world_back"})

    def _run(self) -> None:
        with guarded_sessions():
            self._beat_until_stopped()

    def _beat_until_stopped(self) -> None:
        try:
            while not self._stop.wait(settings.HEARTBEAT_INTERVAL):
                try:
                    if not World.objects.filter(pk=self.world.pk).beat(resident_bytes()):
                        self._come_back()
                except (DatabaseError, InterfaceError) as error:
                    _log.debug("no heartbeat", exc_info=error)
                    close_old_connections()
        finally:
            connections.close_all()
