"""Steps in processes of their own, which can be killed whatever they do.

The process gets the step, the worker's database names, settings and environment; it sends back what the step logs and
how it ended. One fork per step, from a process that has the project loaded: see `processes.fork_server`.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from multiprocessing.connection import Connection, wait
from typing import Any

from django.conf import settings as django_settings
from django.db import connections

from dynflow_app import clock
from dynflow_app.actions import registry
from dynflow_app.actions.resource import close_resources
from dynflow_app.exceptions import Abort, DynflowError, NotSerializableError
from dynflow_app.ledger.recovery import MOST_LOSSES
from dynflow_app.messages import Claimed, EndedAs, Outcome
from dynflow_app.models import Attempt
from dynflow_app.worker import executor
from dynflow_app.worker.context import StepIO
from dynflow_app.worker.invocation import Invocation
from dynflow_app.worker.outcomes import ended_early, vanished
from dynflow_app.worker.processes.fork_server import Forked, fork_server

DATABASE_KEYS = ("NAME", "HOST", "PORT", "USER", "PASSWORD")
LINGER = 1.0
"""Seconds that a process may take to end after it closed its connection to us."""

Outputs = dict[int, Any] | None
Log = Callable[[Claimed, str], None]
Report = Callable[[Claimed, float], None]


class ProcessVanishedError(DynflowError):
    """The process of a step ended before it reported an outcome; ``exit_code`` is negative for a signal, None if
    unknown."""

    def __init__(self, exit_code: int | None) -> None:
        super().__init__(
            f"The process of this step ended with {_how(exit_code)} before it reported an outcome, so it is unknown "
            "whether its effects took place.",
            exit_code=exit_code,
        )


class _Kind(Enum):
    """Of a message from the process to the worker."""

    LOG = auto()
    PROGRESS = auto()
    OUTCOME = auto()
    UNSENDABLE = auto()


class StepChannel:
    """What user code says while it runs, on its way to the worker. For any thread of the process."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def log(self, step: Claimed, text: str) -> None:
        """An output chunk."""
        self._send(_Kind.LOG, text)

    def report(self, step: Claimed, progress: float) -> None:
        """Progress, from 0 to 1."""
        self._send(_Kind.PROGRESS, progress)

    def end(self, outcome: Outcome) -> None:
        """The last message."""
        try:
            self._send(_Kind.OUTCOME, outcome)
        except OSError:
            raise
        except Exception as error:  # pickling raises almost anything
            self._send(_Kind.UNSENDABLE, f"{type(error).__name__}: {error}")

    def _send(self, kind: _Kind, value: object) -> None:
        with self._lock:
            self._connection.send((kind, value))


Run = Callable[[Claimed, Outputs, Invocation, StepChannel], Outcome]


def _execute(step: Claimed, outputs: Outputs, invocation: Invocation, channel: StepChannel) -> Outcome:
    return executor.execute(step, outputs, invocation, channel)


@dataclass(slots=True)
class _Order:
    """What the process needs of the worker."""

    step: Claimed
    outputs: Outputs
    run: Run
    databases: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {
            alias: {key: given[key] for key in DATABASE_KEYS} for alias, given in connections.settings.items()
        }
    )
    dynflow: Any = field(default_factory=lambda: getattr(django_settings, "DYNFLOW", {}))
    environ: dict[str, str] = field(default_factory=lambda: dict(os.environ))
    module: str | None = None
    """Where the worker has the action's class from, which may be no module that every process imports."""

    def __post_init__(self) -> None:
        action_class = registry.known(self.step.action_name)
        self.module = action_class.__module__ if action_class is not None else None

    def adopt(self) -> None:
        """In the process: use the same as the worker."""
        for alias, given in self.databases.items():
            connections.settings[alias].update(given)
        django_settings.DYNFLOW = self.dynflow
        os.environ.clear()
        os.environ.update(self.environ)
        if self.module is not None:
            with contextlib.suppress(ImportError):  # then the class is missing, and the outcome says so
                importlib.import_module(self.module)


def execute_isolated(step: Claimed, outputs: Outputs, invocation: Invocation, io: StepIO) -> Outcome:
    """Run a blocking step in a process of its own, to its end."""
    started = clock.monotonic()
    action_class = registry.known(step.action_name)
    may_repeat = action_class is not None and action_class.idempotent
    try:
        invocation.check()
        executor.set_deadline(invocation)
        return run_isolated(step, outputs, io.log, invocation, io.report)
    except ProcessVanishedError as error:
        lost = Attempt.objects.filter(step_id=step.step_id, ended_as=EndedAs.LOST).count() if may_repeat else 0
        return vanished(step, error, started, may_repeat=may_repeat and lost + 1 < MOST_LOSSES)
    except BaseException as error:
        return ended_early(step, error, started, invocation, None, None)


# --- in the worker -------------------------------------------------------------------------------------------------


def run_isolated(
    step: Claimed, outputs: Outputs, log: Log, invocation: Invocation, report: Report, *, run: Run = _execute
) -> Outcome:
    """Run a step in a process of its own, to the end of that process and of all it started in its process group.

    `run`, a function of a module, is what the process does. Raises `ProcessVanishedError` if it ended without an
    outcome, ``invocation.stop_with`` if that was because of ``invocation.force()``, `NotSerializableError` if the
    outcome could not be sent, and `DynflowError` if there was no process.
    """
    ordered = threading.Event()

    def ask() -> None:
        ordered.wait()
        _send(forked, invocation.stop_with)

    with fork_server.fork() as forked:
        with invocation.in_process(forked.kill, ask):
            try:
                _send(forked, (_live, _Order(step, outputs, run)))
            finally:
                ordered.set()
            outcome = _listen(forked, step, log, report)
            if outcome is None:
                wait([forked.leash], LINGER)
        forked.kill()
        exit_code = forked.wait()
    if outcome is not None:
        return outcome
    if invocation.is_forced:
        raise invocation.stop_with or Abort("its process was killed")
    raise ProcessVanishedError(exit_code)


def _listen(forked: Forked, step: Claimed, log: Log, report: Report) -> Outcome | None:
    """Pass on what the process says; its outcome, or None if it vanished."""
    while forked.connection in wait([forked.connection, forked.leash]):
        try:
            kind, value = forked.connection.recv()
        except (EOFError, OSError):
            return None
        if kind is _Kind.LOG:
            log(step, value)
        elif kind is _Kind.PROGRESS:
            report(step, value)
        elif kind is _Kind.UNSENDABLE:
            raise NotSerializableError(f"The outcome of this step cannot leave its process ({value}). Use JSON only.")
        else:
            outcome: Outcome = value
            return outcome
    return None


def _send(forked: Forked, message: object) -> None:
    with contextlib.suppress(OSError):  # it has ended; whoever listens notices
        forked.connection.send(message)


def _how(exit_code: int | None) -> str:
    if exit_code is None:
        return "an unknown exit code"
    if exit_code >= 0:
        return f"exit code {exit_code}"
    try:
        return f"signal {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"signal {-exit_code}"


# --- in the process ------------------------------------------------------------------------------------------------


def _live(connection: Connection, order: _Order) -> None:
    order.adopt()
    os.register_at_fork(after_in_child=connection.close)  # or the worker would not see that we are gone
    invocation = Invocation(order.step)
    threading.Thread(target=_hear, args=(connection, invocation), name="dynflow-hear", daemon=True).start()
    channel = StepChannel(connection)
    outcome = order.run(order.step, order.outputs, invocation, channel)
    close_resources()
    connections.close_all()
    sys.stdout.flush()
    sys.stderr.flush()
    channel.end(outcome)  # after that we are killed


def _hear(connection: Connection, invocation: Invocation) -> None:
    try:
        while True:
            invocation.ask(connection.recv())
    except (EOFError, OSError):  # nobody wants us any more
        os.killpg(0, signal.SIGKILL)
