"""Runs plans in one process: the same rows and the same code as the split services, other doorbells.

For small installations, tutorials and tests, on SQLite or PostgreSQL.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from dynflow_app import transport
from dynflow_app.actions.resource import close_resources
from dynflow_app.conf import settings
from dynflow_app.ledger.sessions import guarded_sessions
from dynflow_app.models import World
from dynflow_app.orchestrator.service import Orchestrator
from dynflow_app.worker.pump import Pump

POLL_INTERVAL = 0.5
"""Seconds between looks into the ledger, for what other processes triggered: their doorbells are not heard here."""


class InProcessExecutor:
    """One orchestrator thread, one pump with its step threads, until `stop` is set."""

    def __init__(self, world: World, queues: Sequence[str], stop: threading.Event) -> None:
        self._stop = stop
        self._pump = Pump(world, queues, grace=settings.WORKER_STOP_TIMEOUT)

    def run(self) -> None:
        """Serve. Running steps get ``WORKER_STOP_TIMEOUT`` seconds to end."""
        orchestrator = threading.Thread(target=self._orchestrate, name="dynflow-orchestrator", daemon=True)
        poll = threading.Thread(target=self._poll, name="dynflow-poll", daemon=True)
        orchestrator.start()
        poll.start()
        try:
            with guarded_sessions(self._pump.world.pk):
                self._pump.run()
        finally:
            self._stop.set()
            orchestrator.join(timeout=settings.WORKER_STOP_TIMEOUT)
            close_resources()

    def _orchestrate(self) -> None:
        Orchestrator(self._stop).run()

    def _poll(self) -> None:
        while not self._stop.wait(POLL_INTERVAL):
            transport.get().ring_queues({"": 1})
            transport.get().ring_orchestrator()
        self._pump.stop()
