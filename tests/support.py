"""Helpers for tests that wait for something or run ``manage.py`` as real processes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

REPOSITORY = Path(__file__).resolve().parents[1]
WAIT_TIMEOUT = 20.0
"""Seconds any test waits for another process or thread."""


T = TypeVar("T")


def wait_until(predicate: Callable[[], T], timeout: float = WAIT_TIMEOUT, describe: str = "") -> T:
    """Call ``predicate`` until it returns something true and return that.

    Raises AssertionError with ``describe`` (default: the predicate's name) after ``timeout`` seconds.
    """
    deadline = time.monotonic() + timeout
    pause = 0.002
    while not (value := predicate()):
        if time.monotonic() > deadline:
            what = describe or getattr(predicate, "__name__", repr(predicate))
            raise AssertionError(f"waited {timeout:g} s in vain for: {what} (last value: {value!r})")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)
    return value


class ManageProcess:
    """One running ``manage.py`` command; its output goes to a file."""

    def __init__(self, arguments: tuple[str, ...], environ: dict[str, str], log: Path) -> None:
        """Start the command in a process group of its own."""
        self.arguments = arguments
        self.log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, str(REPOSITORY / "manage.py"), *arguments],
                cwd=REPOSITORY,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Process id."""
        return self.process.pid

    @property
    def running(self) -> bool:
        """Whether the process is alive."""
        return self.process.poll() is None

    @property
    def output(self) -> str:
        """Everything printed so far, both streams."""
        return self.log.read_text(errors="replace")

    def wait_for_output(self, text: str, timeout: float = WAIT_TIMEOUT) -> None:
        """Wait until ``text`` was printed; raises AssertionError with the output otherwise."""

        def printed() -> bool:
            assert self.running or text in self.output, f"{self} ended early:\n{self.output}"
            return text in self.output

        try:
            wait_until(printed, timeout)
        except AssertionError as error:
            raise AssertionError(f"{self} did not print {text!r}:\n{self.output}") from error

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process alone, not to its children."""
        self.process.send_signal(number)

    def wait(self, timeout: float = WAIT_TIMEOUT) -> int:
        """Wait for the end and return the exit code; raises AssertionError with the output in vain."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self} did not end within {timeout:g} s:\n{self.output}") from None

    def terminate(self, timeout: float = WAIT_TIMEOUT) -> int:
        """Ask the process to end, wait for it and return the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait(timeout)

    def kill(self) -> None:
        """End the process and its children at once, as a crash of the machine would."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()

    def __str__(self) -> str:
        """The command as typed."""
        return "manage.py " + " ".join(self.arguments)


class Processes:
    """Starts ``manage.py`` commands on the database of the running test, and kills them on exit."""

    def __init__(self, folder: Path) -> None:
        """Keep the output files in ``folder``."""
        self._folder = folder
        self.started: list[ManageProcess] = []

    def manage(self, *arguments: str, settings: str = "project.settings.test", **environ: str) -> ManageProcess:
        """Start ``manage.py ARGUMENTS``; ``environ`` is added to the environment."""
        log = self._folder / f"{len(self.started):02d}-{arguments[0]}.log"
        process = ManageProcess(arguments, {**child_environ(settings), **environ}, log)
        self.started.append(process)
        return process

    def __enter__(self) -> Self:
        """Return self."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Kill what still runs, children included; print every output when the test failed."""
        for process in self.started:
            process.kill()
            print(f"--- {process} (exit {process.process.returncode})\n{process.output}")  # noqa: T201 - shown on failure


def child_environ(settings: str) -> dict[str, str]:
    """Return the environment that points a new process at this test's database and Redis.

    PostgreSQL by name; on SQLite the test file becomes the database through DYNFLOW_DATABASE_FILE.
    """
    from django.conf import settings as current
    from django.db import connection

    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
        "DJANGO_SETTINGS_MODULE": settings,
        "SECRET_KEY": current.SECRET_KEY,
        "REDIS_URL": current.REDIS_URL,
        "PYTHONUNBUFFERED": "1",
    }
    database = str(connection.settings_dict["NAME"])
    environ["POSTGRES_DB" if connection.vendor == "postgresql" else "DYNFLOW_DATABASE_FILE"] = database
    return environ
