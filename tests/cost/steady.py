"""An engine whose batches do not depend on the clock, so that counting again gives the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest import mock

from django.conf import settings
from django.test import override_settings

from dynflow_app import transport
from dynflow_app.orchestrator import service, timers
from dynflow_app.transport.rq import RqTransport
from dynflow_app.worker import hand, pump, shared_transactions, stop_requests
from dynflow_app.worker.appetite import Appetite
from dynflow_app.worker.pump import Pump
from tests.engine import Engine

QUEUE = "default"
NAME = "vm:10000"
LONG_NAME = "shop-workers-7d9c5b6f48-x2x7k:10000"
"""Host and process of the worker. Each step that it runs carries its name; a long one leaves less room for the next
version of steps on their page."""
NEVER = 1e9
"""Seconds."""
_PATIENCE = (
    (pump, "GATHER"),  # outcomes wait for all others that the worker has in hand
    (shared_transactions, "TOGETHER"),  # as many steps share a transaction as may
    (hand, "STALE"),  # nothing that was claimed ahead is given back
    (stop_requests, "LOOK_INTERVAL"),  # nobody is told to stop
)


class SteadyEngine(Engine):
    """One orchestrator, which does what its service does, and one worker of one thread; with doorbells."""

    def is_called(self, name: str) -> None:
        """The worker has this name, wherever the test runs."""
        self.world.host, _, pid = name.partition(":")
        self.world.pid = int(pid)

    def decide(self) -> int:
        """Act on what is due until nothing is; returns how much that was."""
        total = 0
        while acted := service._act(self.term, timers.look()):
            total += acted
        return total

    def work(self, *queues: str, threads: int = 1) -> int:
        """Run what is ready, and what becomes ready by it; each claim is as large as may be."""
        patient = Pump(self.world, queues or [QUEUE], threads=threads)
        patient._appetite.seconds = 0.0
        with ExitStack() as stack:
            for module, name in _PATIENCE:
                stack.enter_context(mock.patch.object(module, name, NEVER))
            stack.enter_context(mock.patch.object(Appetite, "learn"))
            return patient.run(burst=True)

    def work_by_the_clock(self) -> int:
        """As `work`, but as a worker does it: with its threads and its haste."""
        return Pump(self.world, [QUEUE]).run(burst=True)

    def run_to_the_end(self) -> None:
        """Take turns until neither has anything to do."""
        while self.decide() + self.work():
            pass


@contextmanager
def steady_engine() -> Iterator[SteadyEngine]:
    """Beside Redis, in which a worker of ours is registered, so that rings need no jobs of RQ."""
    with override_settings(DYNFLOW={**settings.DYNFLOW, "EXECUTOR": "rq"}):
        engine = SteadyEngine()
        engine.is_called(NAME)
        bell = transport.get()
        assert isinstance(bell, RqTransport), bell
        bell.listens("budget", [QUEUE])
        bell._client.sadd(f"rq:workers:{QUEUE}", "rq:worker:budget")
        try:
            yield engine
        finally:
            bell._client.close()
