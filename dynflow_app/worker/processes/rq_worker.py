"""Our RQ worker class: RQ's own loop, unchanged, beside a supervisor with long-lived children.

RQ gives the command, registration, suspension, dashboard and ordinary jobs; steps do not pass through it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from datetime import timedelta
from typing import Any

import redis
from rq import Worker as RqWorker

from dynflow_app import clock, transport
from dynflow_app.conf import settings
from dynflow_app.processes.parent_death import die_with_parent
from dynflow_app.processes.waiting import Backoff
from dynflow_app.worker import jobs

_log = logging.getLogger("dynflow_app.worker")


class Worker(RqWorker):
    """``manage.py rqworker``: takes RQ jobs as usual, and runs the steps of its queues in child processes.

    Stops gracefully at the first SIGTERM or SIGINT: running steps get ``WORKER_STOP_TIMEOUT`` seconds, the others go
    back. A second signal ends everything at once; steps under way then count as lost.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # RQ's own, which differ between its versions
        connection = kwargs.get("connection")
        if connection is not None:
            _wait_for_redis(connection)
        super().__init__(*args, **kwargs)

    def work(self, *args: Any, **kwargs: Any) -> bool:
        """Run until stopped; with ``burst``, until nothing is ready. Returns whether an RQ job was done."""
        burst = bool(kwargs.get("burst", args[0] if args else False))
        crew = Crew(self.name, self.queue_names(), burst=burst)
        if not burst:  # then nothing may be left when the crew has gone
            jobs.served_here = frozenset(self.queue_names())
        signal.signal(signal.SIGCHLD, lambda *_: crew.notice_end())
        try:
            worked = bool(super().work(*args, **kwargs))
            crew.leave(patiently=burst)
        finally:
            crew.kill()
        if crew.failed:
            raise SystemExit(1)
        return worked

    def request_force_stop(self, signum: int, frame: Any) -> None:
        """RQ takes a second signal within a second for an echo of the first; whoever sends SIGTERM twice means it."""
        if signum == signal.SIGTERM and self._shutdown_requested_date is not None:
            self._shutdown_requested_date -= timedelta(seconds=2)
        super().request_force_stop(signum, frame)

    def heartbeat(self, *args: Any, **kwargs: Any) -> None:
        """RQ registers only at birth; after Redis was emptied its dashboard would never show this worker again."""
        super().heartbeat(*args, **kwargs)
        if not args and not kwargs and not self.is_horse and not self.connection.sismember("rq:workers", self.key):
            with contextlib.suppress(ValueError):
                self.connection.delete(self.key)
                self.register_birth()  # type: ignore[no-untyped-call] # RQ's


class Crew:
    """The supervisor's process, seen from the RQ worker."""

    def __init__(self, name: str, queues: list[str], *, burst: bool) -> None:
        self.failed = False
        self._owner = os.getpid()
        self._burst = burst
        self._pid = os.fork()
        if self._pid == 0:
            _supervise(name, queues, burst)

    def notice_end(self) -> None:
        """Called when a child process ended. Without its supervisor a worker is useless: let whoever runs it start it
        anew."""
        if os.getpid() != self._owner:  # an RQ work horse inherits the handler; its children are not ours
            return
        if self._pid and not self._is_running() and not self._burst:
            self.failed = True
            _log.error("the supervisor ended, so this worker stops", extra={"action": "supervisor_lost"})
            os.kill(os.getpid(), signal.SIGTERM)

    def leave(self, *, patiently: bool) -> None:
        """Let running steps end, within the grace time; patiently: let it end by itself, however long that takes."""
        self._burst = True  # from now on its end is expected
        if not patiently:
            self._signal(signal.SIGTERM)
        deadline = clock.monotonic() + settings.WORKER_STOP_TIMEOUT + 5
        while self._is_running() and (patiently or clock.monotonic() < deadline):
            time.sleep(0.02)

    def kill(self) -> None:
        """End it, and its children with it, if it still runs."""
        self._burst = True
        self._signal(signal.SIGKILL)
        while self._is_running():
            time.sleep(0.01)

    def _is_running(self) -> bool:
        try:
            if self._pid and os.waitpid(self._pid, os.WNOHANG)[0]:
                self._pid = 0
        except ChildProcessError:  # the handler of SIGCHLD was faster
            self._pid = 0
        return bool(self._pid)

    def _signal(self, number: signal.Signals) -> None:
        if self._pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, number)


def _supervise(name: str, queues: list[str], burst: bool) -> None:
    """What the forked supervisor does; never returns."""
    from dynflow_app.worker.processes.supervisor import Supervisor

    code = 1
    try:
        die_with_parent()
        transport.reset()
        Supervisor(name, queues, burst=burst).run()
        code = 0
    except BaseException:
        _log.exception("supervisor ended by an error", extra={"action": "supervisor_failed"})
    finally:
        os._exit(code)  # not sys.exit: the stack above belongs to the RQ worker


def _wait_for_redis(connection: redis.Redis) -> None:
    backoff = Backoff()
    while True:
        try:
            connection.ping()
            return
        except redis.RedisError as error:
            backoff.wait("Redis", error)
