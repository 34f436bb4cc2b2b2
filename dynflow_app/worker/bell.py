"""The bell: a thread that turns doorbells into messages, while there is appetite."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from django.db import DatabaseError, InterfaceError, connections

from dynflow_app import transport

PATIENCE = 1.0
"""Seconds of one wait."""


class Bell:
    """Listens for one worker. A sated worker leaves the bell to others."""

    def __init__(self, queues: Sequence[str], heard: Callable[[], None]) -> None:
        self._queues = list(queues)
        self._heard = heard
        self._hungry = threading.Event()
        self._stopping = threading.Event()

    def start(self) -> None:
        """Begin to listen."""
        threading.Thread(target=self._listen, name="dynflow-bell", daemon=True).start()

    def stop(self) -> None:
        """Hear nothing more."""
        self._stopping.set()
        self._hungry.set()

    def listen_if(self, *, hungry: bool) -> None:
        """Whether the worker wants to be called."""
        if hungry:
            self._hungry.set()
        else:
            self._hungry.clear()

    def _listen(self) -> None:
        bell = transport.get()
        while not self._stopping.is_set():
            self._hungry.wait()
            try:
                rung = bell.wait_queues(self._queues, timeout=PATIENCE)
            except (DatabaseError, InterfaceError):  # the first wait looks up the installation's name
                rung = not self._stopping.wait(PATIENCE)
            if connections.all(initialized_only=True):
                connections.close_all()
            if rung and self._hungry.is_set() and not self._stopping.is_set():
                self._hungry.clear()
                self._heard()
            elif rung:  # sated meanwhile, or about to end: pass it on
                bell.pass_on(self._queues)
