"""The processes of the demo: started, watched, killed on purpose, stopped."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from dynflow_app import clock
from dynflow_app.models import Leadership, World, WorldKind
from project.demo.failure import DemoError
from project.demo.places import ORCHESTRATOR_SETTINGS, SETTINGS
from project.manage_process import start_manage
from project.server_process import tail

START_TIMEOUT = 60.0
STOP_TIMEOUT = 15.0
LOG_LINES = 20


class System:
    """Named ``manage.py`` processes; each writes to ``<name>.log`` in the folder ``logs``."""

    def __init__(self, logs: Path) -> None:
        """Start with empty logs."""
        logs.mkdir(parents=True, exist_ok=True)
        for log in logs.glob("*.log"):
            log.unlink()
        self.logs = logs
        self.killed: list[str] = []
        self._since: datetime = clock.now()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    # --- starting and stopping --------------------------------------------------------

    def start(self, name: str, *arguments: str, settings: str = SETTINGS) -> None:
        """Start ``manage.py ARGUMENTS``."""
        self._processes[name] = start_manage(arguments, settings=settings, log=self._log(name))

    def start_split(self) -> None:
        """Start two orchestrators and two workers, and wait until they are at work."""
        epoch = current_epoch()
        for number in (1, 2):
            self.start(f"orchestrator-{number}", "dynflow_orchestrator", settings=ORCHESTRATOR_SETTINGS)
        for number in (1, 2):
            self.start(f"worker-{number}", "rqworker", "rex", "default")
        self.wait_until(lambda: current_epoch() > epoch, "an orchestrator to lead")
        self.wait_until(lambda: self._count(WorldKind.ORCHESTRATOR) >= 2, "the standby orchestrator")
        self.wait_until(lambda: self._count(WorldKind.WORKER) >= 2, "the workers")

    def start_tiny(self) -> None:
        """Start the in-process executor, and wait until it is at work."""
        epoch = current_epoch()
        self.start("executor", "dynflow_executor")
        self.wait_until(lambda: current_epoch() > epoch, "the executor")

    def stop(self) -> None:
        """Ask all processes to stop, then kill what is left."""
        for process in self._processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_TIMEOUT
        for process in self._processes.values():
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    # --- watching ---------------------------------------------------------------------

    def check(self) -> None:
        """Raise `DemoError` if a process ended that nobody killed."""
        for name, process in self._processes.items():
            if name not in self.killed and process.poll() is not None:
                raise DemoError(f"{name} ended unexpectedly (exit code {process.returncode}).")

    def wait_until(self, condition: Callable[[], bool], what: str, timeout: float = START_TIMEOUT) -> None:
        """Wait for ``what``. Raises `DemoError` if it does not come or a process ends."""
        deadline = time.monotonic() + timeout
        while not condition():
            self.check()
            if time.monotonic() > deadline:
                raise DemoError(f"Waited {timeout:g} s in vain for {what}.", "The logs say what it waits for.")
            time.sleep(0.03)

    def lost_workers(self) -> int:
        """How many workers of this run were declared dead."""
        return World.objects.filter(kind=WorldKind.WORKER, started_at__gte=self._since, state="invalidated").count()

    def wait_until_losses_are_noticed(self) -> None:
        """Wait until every killed worker is declared dead: a short job may end before that."""
        killed = sum(name.startswith("worker") for name in self.killed)
        self.wait_until(lambda: self.lost_workers() >= killed, "the loss of a worker to be noticed")

    def last_lines(self) -> dict[str, str]:
        """The end of each log that says anything."""
        tails = {log.stem: tail(log, LOG_LINES) for log in sorted(self.logs.glob("*.log"))}
        return {name: text for name, text in tails.items() if text}

    def _count(self, kind: WorldKind) -> int:
        return World.objects.alive().filter(kind=kind, started_at__gte=self._since).count()

    # --- killing ----------------------------------------------------------------------

    def kill(self, name: str) -> int:
        """End a process at once, as the out-of-memory killer would; returns its process id."""
        process = self._processes[name]
        self.killed.append(name)
        process.kill()
        process.wait()
        return process.pid

    def leader(self) -> str:
        """The name of the orchestrator that leads, by the last epoch that one of them announced."""
        epochs = {name: self._announced_epoch(name) for name in self._processes if name.startswith("orchestrator")}
        return max(epochs, key=lambda name: epochs[name])

    def _announced_epoch(self, name: str) -> int:
        announced = re.findall(r"leading: .*\(epoch (\d+)\)", self._log(name).read_text(errors="replace"))
        return int(announced[-1]) if announced else 0

    def _log(self, name: str) -> Path:
        return self.logs / f"{name}.log"


def current_epoch() -> int:
    """How often an orchestrator has begun to lead in this database."""
    return Leadership.objects.values_list("epoch", flat=True).first() or 0
