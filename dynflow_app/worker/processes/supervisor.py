"""The supervisor: forks the children that run steps, beats their hearts in the ledger, replaces the dead and the fat.

It runs no user code and has one thread, so nothing a step does can keep it from noticing::

    rqworker (RQ's loop) -> supervisor -> child, child, ...

A child that dies is noticed at once, and shared memory tells which of its steps had started. If the supervisor or the
rqworker dies, the kernel kills what is below (parent-death signal; elsewhere each notices its new parent).
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from types import FrameType

from django.db import DatabaseError, InterfaceError, connections, transaction

from dynflow_app import clock, probes, transport
from dynflow_app.actions.resource import close_resources
from dynflow_app.conf import settings
from dynflow_app.exceptions import DynflowError
from dynflow_app.ledger.recovery import reclaim_all
from dynflow_app.ledger.sessions import guarded_sessions
from dynflow_app.models import World, WorldKind
from dynflow_app.models.base import ledger_alias
from dynflow_app.processes.memory import resident_bytes
from dynflow_app.processes.parent_death import die_with_parent, is_orphan
from dynflow_app.processes.registration import (
    register,
    require_no_other_way,
    require_schema,
    take_leave,
)
from dynflow_app.processes.waiting import Backoff
from dynflow_app.schedules.declaring import declare_schedules
from dynflow_app.signals import announce, world_invalidated
from dynflow_app.transport.base import TransportError
from dynflow_app.worker.processes.started import StartedSteps
from dynflow_app.worker.pump import Pump

_log = logging.getLogger("dynflow_app.worker")

SHORT_LIFE = 1.0
"""Seconds: a child that died sooner is replaced only after as long."""


@dataclass(slots=True)
class Child:
    """A process that runs steps, as its supervisor sees it."""

    pid: int
    world: World
    started: StartedSteps
    born_at: float = field(default_factory=clock.monotonic)
    is_leaving: bool = False
    """Told to finish what it has; it is not replaced when it ends."""
    stopped_at: float | None = None
    """Since when an OS signal keeps it from running (SIGSTOP)."""


class Supervisor:
    """Keeps a number of children running until told to stop."""

    def __init__(self, name: str, queues: Sequence[str], *, burst: bool = False) -> None:
        self._name = name
        self._queues = list(queues)
        self._burst = burst
        self._children: dict[int, Child] = {}
        self._born = 0
        self._stopping_since: float | None = None
        self._parent = os.getppid()
        self._next_beat = 0.0
        self._next_birth = 0.0
        self._wake_read, self._wake_write = os.pipe()

    def run(self) -> None:
        """Supervise until a SIGTERM, or with burst until every child has ended by itself."""
        self._handle_signals()
        with guarded_sessions():
            self._supervise()

    def _supervise(self) -> None:
        self._wait_for_ledger()
        while not self._is_over():
            try:
                self._reap()
                self._replace()
                self._beat()
            except (DatabaseError, InterfaceError) as error:
                _log.warning("the ledger does not answer: %s", str(error).strip(), extra={"action": "waiting"})
                connections.close_all()
            if is_orphan(self._parent):
                self._kill_all()
                return
            self._enforce_deadline()
            self._sleep()
        connections.close_all()

    def _is_over(self) -> bool:
        return not self._children and (self._stopping_since is not None or (self._burst and self._next_birth > 0))

    def _handle_signals(self) -> None:
        os.set_blocking(self._wake_write, False)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # only wakes the select
        # A terminal sends SIGINT to the whole group, but the parent decides. SIG_IGN would pass to users' programs.
        signal.signal(signal.SIGINT, lambda *_: None)
        signal.signal(signal.SIGTERM, self._begin_to_stop)

    def _begin_to_stop(self, signum: int, frame: FrameType | None) -> None:
        self._stopping_since = self._stopping_since or clock.monotonic()
        for child in self._children.values():
            self._dismiss(child)

    def _wait_for_ledger(self) -> None:
        backoff = Backoff()
        while self._stopping_since is None:
            try:
                require_schema()
                require_no_other_way([WorldKind.EXECUTOR])
                transport.get().check()
                transport.get().listens(self._name, self._queues)
                declare_schedules()
            except TransportError as error:
                backoff.wait("Redis", error)
            except (DatabaseError, InterfaceError) as error:
                connections.close_all()
                backoff.wait("the database", error)
            except DynflowError as error:
                backoff.wait("the right moment to start", error)
            else:
                backoff.reset()
                return

    # --- children --------------------------------------------------------------------------------------------

    def _replace(self) -> None:
        """Fork the missing children, and successors of those that should go."""
        if self._stopping_since is not None or clock.monotonic() < self._next_birth:
            return
        if self._burst and self._next_birth:
            return
        for child in list(self._children.values()):
            if not child.is_leaving and self._has_had_its_day(child):
                self._fork()
                self._dismiss(child)
        staying = sum(not child.is_leaving for child in self._children.values())
        for _ in range(settings.WORKER_CHILDREN - staying):
            self._fork()
        self._next_birth = self._next_birth or 1e-9

    def _has_had_its_day(self, child: Child) -> bool:
        if any(other.is_leaving for other in self._children.values()):
            return False  # one at a time: long steps keep those that leave
        limit, most, done = settings.WORKER_MEMORY_LIMIT, settings.WORKER_MAX_STEPS, child.started.finished()
        # One that has done nothing yet is as large as its successor would be.
        size = resident_bytes(child.pid) if limit and done else None
        return bool((size is not None and limit and size > limit) or (most and done >= most))

    def _fork(self) -> None:
        started = StartedSteps()
        world = register(WorldKind.WORKER, self._queues, pid=os.getpid())
        connections.close_all()  # a child that closed an inherited session would end it for both
        # A SIGTERM in between would reach neither a child that is not yet noted nor one that has no handler yet.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        pid = os.fork()
        if pid == 0:
            _child_main(world, self._queues, started, self._burst, is_first=not self._born)
        self._born += 1
        world.pid = pid
        self._children[pid] = Child(pid, world, started)
        if self._stopping_since is not None:  # told to stop while this one was being registered
            self._dismiss(self._children[pid])
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        World.objects.filter(pk=world.pk).update(pid=pid)

    def _dismiss(self, child: Child) -> None:
        child.is_leaving = True
        _signal(child.pid, signal.SIGTERM)

    def _reap(self) -> None:
        for pid in list(self._children):
            changed, status = os.waitpid(pid, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
            child = self._children[pid]
            if changed and os.WIFSTOPPED(status):
                child.stopped_at = clock.monotonic()
            elif changed and os.WIFCONTINUED(status):
                child.stopped_at = None
            elif changed:
                del self._children[pid]
                self._bury(child, os.waitstatus_to_exitcode(status))
            elif child.stopped_at and clock.monotonic() - child.stopped_at > settings.WORLD_TIMEOUT:
                _signal(pid, signal.SIGKILL)  # as silent as a dead one, and its steps wait

    def _bury(self, child: Child, exit_code: int) -> None:
        """Take back what a dead child still had; a step whose user code may have begun has an unknown outcome."""
        started = child.started.started()
        lost = handed_back = 0
        backoff = Backoff()
        while True:
            try:
                taken = reclaim_all(child.world, partial(transaction.atomic, using=ledger_alias()), started=started)
            except (DatabaseError, InterfaceError) as error:
                connections.close_all()
                backoff.wait("the database", error)
            else:
                lost, handed_back = taken.lost, taken.handed_back
                break
        take_leave(child.world)
        if exit_code != 0 and self._stopping_since is None:
            self._next_birth = (
                clock.monotonic()
                if clock.monotonic() - child.born_at > SHORT_LIFE
                else (clock.monotonic() + SHORT_LIFE)
            )
        if lost or handed_back or exit_code != 0:
            announce(
                world_invalidated, World, world_id=child.world.pk, worker=str(child.world),
                lost=lost, handed_back=handed_back,
            )  # fmt: skip

    # --- time ------------------------------------------------------------------------------------------------

    def _beat(self) -> None:
        """One update for all children. A world that somebody declared dead has lost its steps: its process goes too."""
        if clock.monotonic() < self._next_beat or not self._children:
            return
        self._next_beat = clock.monotonic() + settings.HEARTBEAT_INTERVAL
        transport.get().listens(self._name, self._queues)
        worlds = World.objects.filter(pk__in=[child.world.pk for child in self._children.values()])
        if worlds.beat() < len(self._children):
            alive = set(worlds.alive().values_list("pk", flat=True))
            for child in self._children.values():
                if child.world.pk not in alive:
                    _signal(child.pid, signal.SIGKILL)

    def _enforce_deadline(self) -> None:
        since = self._stopping_since
        if since is not None and clock.monotonic() - since > settings.WORKER_STOP_TIMEOUT:
            self._kill_all()

    def _kill_all(self) -> None:
        for child in self._children.values():
            _signal(child.pid, signal.SIGKILL)

    def _sleep(self) -> None:
        ready, _, _ = select.select([self._wake_read], [], [], 0.5)
        if ready:
            os.read(self._wake_read, 4096)


def _child_main(world: World, queues: list[str], started: StartedSteps, burst: bool, *, is_first: bool) -> None:
    """What a forked child does; never returns."""
    code = 1
    try:
        die_with_parent()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        transport.reset()
        if is_first:  # a test breaks one child; its successors are sound
            probes.install_from_environment()
        pump = Pump(world, queues, started=started, may_end=True)
        os.register_at_fork(after_in_child=_restore_signals)
        signal.signal(signal.SIGTERM, lambda *_: pump.stop())
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        with guarded_sessions(world.pk):
            pump.run(burst=burst)
        close_resources()
        code = 0
    except BaseException:
        _log.exception("child ended by an error", extra={"action": "child_failed"})
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)  # not sys.exit: the stack above belongs to the supervisor


def _restore_signals() -> None:
    """Processes that user code forks are to react to signals as usual."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
