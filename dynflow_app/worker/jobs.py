"""What RQ stores by name: the doorbell as a job, for stock worker classes. Renaming a function here needs an alias."""

from __future__ import annotations

import atexit
import logging
import os

from django.db import DatabaseError, InterfaceError, connections
from rq import get_current_job

from dynflow_app import clock, transport
from dynflow_app.actions.resource import close_resources, close_resources_if_forked
from dynflow_app.ledger.sessions import guarded_sessions
from dynflow_app.models import WorldKind
from dynflow_app.models.base import is_outage
from dynflow_app.processes.parent_death import die_with_parent, is_orphan
from dynflow_app.processes.registration import Heartbeat, register, require_no_other_way, take_leave
from dynflow_app.transport.rq import RqTransport
from dynflow_app.worker.pump import Pump

atexit.register(close_resources)  # of workers that run jobs in their own process
_log = logging.getLogger("dynflow_app.worker")

served_here: frozenset[str] = frozenset()
"""Queues whose steps children of this worker run, so that it leaves them to those: they obey its signals."""
SLICE = 60.0
"""Seconds after which a drain job claims no more, so that the worker can serve its other jobs and commands."""


def drain(queue: str) -> int:
    """Claim what is ready in `queue` and run it, until there is nothing more or the slice is over.

    Correct under any RQ worker class: everything of weight is in the ledger. Returns the number of steps. If the
    database is away nothing is lost: the orchestrator rings again for what is ready.
    """
    try:
        return _drain(queue)
    except (DatabaseError, InterfaceError) as error:
        if not is_outage(error):
            raise
        connections.close_all()
        _log.warning("the database does not answer: %s", str(error).strip(), extra={"action": "drain_given_up"})
        return 0


def _die_with_worker() -> None:
    """If this is a work horse, end with the worker that forked it: nobody hears of it any more, and while the database
    is away it would wait for ever."""
    job = get_current_job()
    if job is not None and job.worker_name:
        pid = job.connection.hget(f"rq:worker:{job.worker_name}", "pid")
        if pid is not None and int(pid) == os.getppid():
            die_with_parent()
            if is_orphan(int(pid)):  # before we could say so
                raise SystemExit(1)


def _drain(queue: str) -> int:
    _die_with_worker()
    bell = transport.get()
    if isinstance(bell, RqTransport):
        bell.drain_begins(queue)
    if queue in served_here:
        bell.pass_on([queue])
        return 0
    require_no_other_way([WorldKind.EXECUTOR])
    world = register(WorldKind.WORKER, [queue])
    heartbeat = Heartbeat(world)
    heartbeat.start()
    pump = Pump(world, [queue])
    try:
        with guarded_sessions(world.pk):
            done = pump.run(burst=True, until=clock.monotonic() + SLICE)
        if pump.left_something:
            bell.ring_queues({queue: 1})
        return done
    finally:
        close_resources_if_forked()
        heartbeat.stop()
        take_leave(world)
        connections.close_all()
