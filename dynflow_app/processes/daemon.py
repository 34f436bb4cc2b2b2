"""A process of ours from start to end: waits for its servers, registers, beats, stops at OS signals."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from django.db import DatabaseError, InterfaceError, connections

from dynflow_app import __version__, transport
from dynflow_app.exceptions import DynflowError
from dynflow_app.models import World, WorldKind
from dynflow_app.models.base import ledger_connection
from dynflow_app.processes.registration import (
    Heartbeat,
    register,
    require_no_other_way,
    require_schema,
    take_leave,
)
from dynflow_app.processes.waiting import Backoff
from dynflow_app.schedules.declaring import declare_schedules
from dynflow_app.transport.base import TransportError


class Daemon:
    """``with daemon.running():`` surrounds what the process does until ``stop`` is set."""

    def __init__(self, kind: WorldKind, queues: Sequence[str], *, not_beside: Sequence[WorldKind]) -> None:
        self.stop = threading.Event()
        self._kind = kind
        self._queues = list(queues)
        self._not_beside = not_beside
        self._world: World | None = None

    @property
    def world(self) -> World:
        """The process's registration; while running."""
        if self._world is None:
            raise DynflowError("This process was told to stop before it could register.")
        return self._world

    @contextmanager
    def running(self) -> Iterator[None]:
        """Wait until the servers are there, register, and take leave at the end. SIGTERM and SIGINT set ``stop``."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        self._wait_for_servers()
        if self.stop.is_set():
            raise SystemExit(0)
        heartbeat = Heartbeat(self.world)
        heartbeat.start()
        try:
            yield
        finally:
            heartbeat.stop()
            self._leave()

    def banner(self) -> str:
        """One line: version, database, transport."""
        return f"{__version__} on {ledger_connection().display_name}, {transport.get()}; stop with Ctrl-C"

    def _on_signal(self, signum: int, frame: object) -> None:
        if self.stop.is_set():  # the second one: now
            raise KeyboardInterrupt
        self.stop.set()

    def _wait_for_servers(self) -> None:
        backoff = Backoff()
        while not self.stop.is_set() and self._world is None:
            try:
                require_schema()
                transport.get().check()
                require_no_other_way(self._not_beside)
                declare_schedules()
                self._world = register(self._kind, self._queues)
            except (DatabaseError, InterfaceError) as error:
                connections.close_all()
                backoff.wait("the database", error, self.stop)
            except TransportError as error:
                backoff.wait("Redis", error, self.stop)
            except DynflowError as error:
                backoff.wait("the right moment to start", error, self.stop)
        if self._world is not None:
            backoff.reset()

    def _leave(self) -> None:
        try:
            take_leave(self.world)
        except (DatabaseError, InterfaceError):
            connections.close_all()  # then its world falls silent and is forgotten
