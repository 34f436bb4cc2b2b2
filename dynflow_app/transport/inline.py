"""Doorbells within one process, for the in-process executor: nothing to connect to."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence


class InlineLease:
    """One process needs no lease: the ledger's epoch still fences it from any other."""

    def acquire(self) -> bool:
        """Always."""
        return True

    def renew(self) -> bool:
        """Always."""
        return True

    def release(self) -> None:
        """Nothing to give up."""


class InlineTransport:
    """Two events. A ring from another process is not heard; the executor looks into the ledger often enough."""

    def __init__(self) -> None:
        self._orchestrator = threading.Event()
        self._queues = threading.Event()

    def __str__(self) -> str:
        return "no Redis"

    def ring_orchestrator(self) -> None:
        """Wake the orchestrator's thread."""
        self._orchestrator.set()

    def ring_queues(self, ready: Mapping[str, int]) -> None:
        """Wake the claiming thread, if there is anything."""
        if any(ready.values()):
            self._queues.set()

    def wait_orchestrator(self, timeout: float) -> bool:
        """Wait for `ring_orchestrator`."""
        return _wait(self._orchestrator, timeout)

    def wait_queues(self, queues: Sequence[str], timeout: float) -> bool:
        """Wait for `ring_queues`; one executor serves all queues."""
        return _wait(self._queues, timeout)

    def pass_on(self, queues: Sequence[str]) -> None:
        """Ring again, for the next wait."""
        self._queues.set()

    def listens(self, name: str, queues: Sequence[str]) -> None:
        """Who listens in one process is known."""

    def lease(self, seconds: float) -> InlineLease:
        """A lease that is always granted."""
        return InlineLease()

    def check(self) -> None:
        """There is nothing that could be unreachable."""

    def is_suspended(self) -> bool:
        """There are no RQ workers."""
        return False

    def stock_workers(self, queue: str) -> int:
        """None."""
        return 0


def _wait(event: threading.Event, timeout: float) -> bool:
    rung = event.wait(timeout)
    event.clear()
    return rung
