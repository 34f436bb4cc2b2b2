"""Commands on this machine: a subprocess that leads a process group of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from project.rex.connections.command import Command, UnreachableError
from project.rex.connections.output import Output
from project.rex.connections.supervision import STOP_GRACE, supervise
from project.rex.inventory import Host

INHERITED = ("HOME", "LANG", "LOGNAME", "PATH", "SHELL", "TMPDIR", "TZ", "USER")
"""What a command sees of the worker's environment: like a new session, without its secrets."""


async def run_locally(host: Host, command: Command, output: Output) -> int:
    """Run ``command`` here and return its exit code, negative for an OS signal.

    Raises ``TimeLimitError`` or ``CancelledError`` once the process group is dead, and
    ``UnreachableError`` if this machine cannot start a process.
    """
    with _arguments(command) as arguments:
        try:
            process = await _start(arguments, command, output)
        except FileNotFoundError as error:
            return _not_started(127, error, output)
        except PermissionError as error:
            return _not_started(126, error, output)
        except OSError as error:
            raise UnreachableError(f"no process could be started here: {error.strerror}") from error
        try:
            return await supervise(process, command.time_limit)
        finally:
            process.close()


class LocalProcess(asyncio.SubprocessProtocol):
    """The subprocess and its output."""

    def __init__(self, output: Output) -> None:
        """Feed ``output``; called by the loop before the process exists."""
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._streams = {1: output.stdout, 2: output.stderr}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the process, whose group has its own number."""
        self._transport = cast("asyncio.SubprocessTransport", transport)
        self._group = self._transport.get_pid()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """Pass on what the process printed."""
        self._streams[fd].feed(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the exit code: the process ended and both its streams are closed."""
        if not self.ended.done():
            self.ended.set_result(self._transport.get_returncode() or 0)

    async def stop(self) -> None:
        """Send SIGTERM to the group, and SIGKILL to what is left of it after the grace time."""
        try:
            self._signal(signal.SIGTERM)
            await asyncio.wait([self.ended], timeout=STOP_GRACE)
        finally:
            self._signal(signal.SIGKILL)
            await asyncio.wait([self.ended], timeout=STOP_GRACE)

    def close(self) -> None:
        """Let go of the process and its pipes, which a daemon it left behind may still hold."""
        self._transport.close()

    def _signal(self, number: int) -> None:
        """Send an OS signal to the group, of which nobody may be left."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._group, number)


async def _start(arguments: list[str], command: Command, output: Output) -> LocalProcess:
    loop = asyncio.get_running_loop()
    _, process = await loop.subprocess_exec(
        lambda: LocalProcess(output),
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        start_new_session=True,
        cwd=_home(),
        env=_environment(command),
    )
    return process


@contextlib.contextmanager
def _arguments(command: Command) -> Iterator[list[str]]:
    """Yield the words to execute; a script is a private file as long as it runs.

    Its interpreter is named rather than left to the kernel, which would refuse the file on a
    file system mounted ``noexec`` or while a fork of this process still holds it open.
    """
    if not command.script:
        yield ["/bin/sh", "-c", command.text]
        return
    descriptor, name = tempfile.mkstemp(prefix="rex-", suffix=".script")
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o700)
            file.write(command.payload)
        yield [*command.interpreter, name]
    finally:
        Path(name).unlink()


def _environment(command: Command) -> dict[str, str]:
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    return {"PATH": os.defpath, **inherited, **command.environment}


def _home() -> str:
    home = Path("~").expanduser()
    return str(home) if os.access(home, os.X_OK) else "/"


def _not_started(exit_code: int, error: OSError, output: Output) -> int:
    """Return what a shell would: 127 for no such interpreter, 126 for one that may not run."""
    output.stderr.feed(f"{error.filename}: {error.strerror}\n".encode())
    return exit_code
