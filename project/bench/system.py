"""The system that is measured: an orchestrator and a worker as real processes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import UUID

from django.core.management import call_command
from django.db.models import QuerySet

from dynflow_app.models import ExecutionPlan, World, WorldKind
from dynflow_app.states import PlanResult, PlanState, WorldState
from project.bench.places import ORCHESTRATOR_SETTINGS, SETTINGS
from project.manage_process import start_manage

START_TIMEOUT = 60.0
STOP_TIMEOUT = 40.0


class BenchError(RuntimeError):
    """The measurement cannot go on; the text says why."""


class System:
    """Migrates, starts the processes, and stops them at the end of the ``with`` block or by ``stop()``."""

    def __init__(self, logs: Path, queues: Sequence[str] = ("default",)) -> None:
        """Keep the output of the processes in ``logs``; there is a worker for each of ``queues``."""
        self._logs = logs
        self._workers = {"worker" if len(queues) == 1 else f"worker_{queue}": queue for queue in queues}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        """Start everything and wait until it listens."""
        call_command("migrate", verbosity=0)
        try:
            self._manage("orchestrator", "dynflow_orchestrator", settings=ORCHESTRATOR_SETTINGS)
            for name, queue in self._workers.items():
                self._manage(name, "rqworker", queue, settings=SETTINGS)
            self._wait_until(self._is_ready, "orchestrator and workers to start")
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop everything."""
        self.stop()

    def add_worker(self) -> None:
        """Start a second worker, and wait until it is there."""
        if "worker_2" not in self._processes:
            before = self._active(WorldKind.WORKER).count()
            self._manage("worker_2", "rqworker", "default", settings=SETTINGS)
            self._wait_until(lambda: self._active(WorldKind.WORKER).count() > before, "a second worker to start")

    def roots(self) -> dict[str, int]:
        """The process ids of what was started, by name; workers have processes below theirs."""
        return {name: process.pid for name, process in self._processes.items()}

    def stop(self) -> None:
        """Ask the processes to stop, then kill what is left."""
        stopping = list(self._processes.values())
        self._processes.clear()
        for process in stopping:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in stopping:
            try:
                process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    @contextlib.contextmanager
    def beside(self, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """Another command, waited for at the end of the block. Raises BenchError if it failed by itself."""
        process = start_manage(arguments, settings=SETTINGS, log=self._log(arguments[0]))
        try:
            yield process
            if process.wait(STOP_TIMEOUT) not in (0, 128 + signal.SIGTERM):
                raise BenchError(f"{arguments[0]} failed:\n{self._log(arguments[0]).read_text(errors='replace')}")
        finally:
            process.kill()

    def wait_for(self, plan_ids: list[UUID], *, pause: float, timeout: float = 600.0) -> int:
        """Wait until these plans have stopped; returns the number of statements this took.

        Raises BenchError if one did not succeed, or a process ended.
        """
        looks = 0
        last = ExecutionPlan.objects.filter(pk=plan_ids[-1])
        rest = ExecutionPlan.objects.filter(pk__in=plan_ids).exclude(state=PlanState.STOPPED)
        for query in [last.exclude(state=PlanState.STOPPED)] + ([rest] if len(plan_ids) > 1 else []):
            looks += self._wait_until(lambda query=query: not query.exists(), "plans to end", timeout, pause)
        succeeded = ExecutionPlan.objects.filter(pk__in=plan_ids, result=PlanResult.SUCCESS).count()
        if succeeded != len(plan_ids):
            raise BenchError(f"{len(plan_ids) - succeeded} of {len(plan_ids)} plans did not succeed.")
        return looks + 1

    def _manage(self, name: str, *arguments: str, settings: str) -> None:
        self._processes[name] = start_manage(arguments, settings=settings, log=self._log(name))

    def _wait_until(
        self, condition: Callable[[], bool], what: str, timeout: float = START_TIMEOUT, pause: float = 0.02
    ) -> int:
        """Returns how often it looked."""
        deadline = time.monotonic() + timeout
        looks = 1
        while not condition():
            for name, process in self._processes.items():
                if process.poll() is not None:
                    raise BenchError(f"{name} ended:\n{self._log(name).read_text(errors='replace')[-4000:]}")
            if time.monotonic() > deadline:
                raise BenchError(f"Waited {timeout:g} s in vain for {what}.")
            time.sleep(pause)
            looks += 1
        return looks

    def _is_ready(self) -> bool:
        workers = self._active(WorldKind.WORKER)
        served = {queue for queues in workers.values_list("queues", flat=True) for queue in queues}
        return self._active(WorldKind.ORCHESTRATOR).exists() and served >= set(self._workers.values())

    def _active(self, kind: WorldKind) -> QuerySet[World]:
        return World.objects.filter(kind=kind, state=WorldState.ACTIVE)

    def _log(self, name: str) -> Path:
        return self._logs / f"{name}.log"
