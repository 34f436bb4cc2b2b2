"""Building blocks of project.servers: a supervised process and its guard."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

GUARD_SCRIPT = """
cat > /dev/null
temporary="$1"; shift
for file in "$@"; do
    [ -s "$file" ] || continue
    pid=$(head -n 1 "$file")
    kill -INT "$pid" 2> /dev/null || continue
    tries=0
    while [ -e "$file" ] && [ "$tries" -lt 150 ]; do sleep 0.1; tries=$((tries + 1)); done
    kill -KILL "$pid" 2> /dev/null
done
IFS='
'
for folder in $temporary; do rm -rf -- "$folder"; done
"""


class ServersUnavailable(RuntimeError):  # noqa: N818 - reads as a state, and callers fall back on it
    """The embedded servers cannot be used here; the text says why and what to do."""


class ServerProcess:
    """One server: started in its own session, so that Ctrl-C in the terminal does not reach it."""

    def __init__(self, name: str, log: Path, stop_signals: Sequence[tuple[signal.Signals, float]]) -> None:
        """Describe a server.

        ``stop_signals`` are tried in order, each with the seconds it is given to work.
        """
        self.name = name
        self.log = log
        self._stop_signals = stop_signals
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether the process was started and is alive."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """Process id while running, otherwise None."""
        return self._process.pid if self._process is not None and self.running else None

    def start(
        self,
        command: Sequence[str | Path],
        ready: Callable[[], bool],
        *,
        account: pwd.struct_passwd | None = None,
        timeout: float = 30,
    ) -> None:
        """Start ``command`` and wait until ``ready()``; does nothing when it is running.

        Raises ServersUnavailable when it ends early or is not ready after ``timeout`` seconds.
        """
        if self.running:
            return
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd="/",
                **identity(account),
            )
        deadline = time.monotonic() + timeout
        while not ready():
            if not self.running or time.monotonic() > deadline:
                self.stop()
                raise ServersUnavailable(f"{self.name} did not start.\n{tail(self.log)}")
            time.sleep(0.01)

    def stop(self) -> None:
        """End the process, escalating through the stop signals; does nothing when it is not running."""
        process, self._process = self._process, None
        if process is None:
            return
        for number, seconds in (*self._stop_signals, (signal.SIGKILL, 10.0)):
            if process.poll() is not None:
                return
            process.send_signal(number)
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                continue
            return

    def kill(self) -> None:
        """End the process at once, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class Guard:
    """A small shell that stops the servers when this process is gone, however it went.

    It waits for the end of a pipe that only this process holds. Then it stops what the pid
    files still name and removes the temporary folders.
    """

    def __init__(self, pid_files: Sequence[Path], temporary: Sequence[Path]) -> None:
        """Start guarding; ``temporary`` folders are removed with all their content."""
        self._shell = subprocess.Popen(
            ["/bin/sh", "-c", GUARD_SCRIPT, "guard", "\n".join(map(str, temporary)), *map(str, pid_files)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )

    def release(self) -> None:
        """End the guard and wait until it has cleaned up."""
        assert self._shell.stdin is not None  # noqa: S101 - a pipe was asked for above
        self._shell.stdin.close()
        self._shell.wait(timeout=60)


def identity(account: pwd.struct_passwd | None) -> dict[str, Any]:
    """Return the arguments that make a subprocess run as ``account``; None keeps the caller's."""
    if account is None:
        return {}
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def wait_for_previous(pid_file: Path, program: str, timeout: float = 15) -> None:
    """Wait until the server of an earlier run has ended; remove its pid file if it is stale.

    Raises ServersUnavailable when it is still running after ``timeout`` seconds.
    """
    deadline = time.monotonic() + timeout
    while (pid := read_pid(pid_file)) is not None:
        if not runs_program(pid, program):
            pid_file.unlink(missing_ok=True)
            return
        if time.monotonic() > deadline:
            raise ServersUnavailable(f"{program} (process {pid}) still uses {pid_file.parent}; stop it first.")
        time.sleep(0.05)


def read_pid(pid_file: Path) -> int | None:
    """Return the number in the first line of ``pid_file``; None when there is none."""
    try:
        return int(pid_file.read_text().split("\n", 1)[0])
    except (OSError, ValueError):
        return None


def runs_program(pid: int, program: str) -> bool:
    """Whether process ``pid`` is alive and, where the system tells, runs ``program``."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    command_line = Path(f"/proc/{pid}/cmdline")
    try:
        return program in command_line.read_text(errors="replace")
    except OSError:
        return not Path("/proc/self").exists()


def tail(log: Path, lines: int = 15) -> str:
    """Return the last lines of a log file, for error messages."""
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""
