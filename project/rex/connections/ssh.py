"""Commands on another machine, through SSH with the host's key checked.

Only what the inventory says counts: ``~/.ssh/config`` is not read, passwords are not tried, and
no key is ever added to ``known_hosts``.
"""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import signal
from collections.abc import AsyncIterator

import asyncssh

from project.rex.connections.command import Command, ConnectionLostError, UnreachableError
from project.rex.connections.output import Output
from project.rex.connections.ssh_errors import known_hosts_file, unreachable
from project.rex.connections.supervision import STOP_GRACE, supervise
from project.rex.inventory import Host

CONNECT_TIMEOUT = 10.0
"""Seconds that connecting and logging in may take together."""

KEEPALIVE_INTERVAL = 15.0
"""Seconds of silence after which the host is asked for a sign of life."""

KEEPALIVE_COUNT = 3
"""Unanswered questions after which the connection counts as lost."""


async def run_through_ssh(host: Host, command: Command, output: Output) -> int:
    """Run ``command`` on ``host`` and return its exit code, negative for an OS signal.

    Raises ``TimeLimitError`` or ``CancelledError`` once the command was told to end and its
    connection is closed, ``HostError`` if the command was not started, and ``ConnectionLostError`` if
    it (perhaps) was, and the connection is lost.
    """
    async with _connected(host) as connection:
        process = await _start(connection, host, command, output)
        return await supervise(process, command.time_limit)


class RemoteProcess(asyncssh.SSHClientSession[bytes]):
    """The command on the host and its output."""

    def __init__(self, output: Output) -> None:
        """Feed ``output``."""
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.ended.add_done_callback(_retrieve)
        self._output = output
        self._exit_code: int | None = None

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        """Remember the channel."""
        self._channel = chan

    def data_received(self, data: bytes, datatype: int | None) -> None:
        """Pass on what the command printed."""
        stream = self._output.stderr if datatype else self._output.stdout
        stream.feed(data)

    def exit_status_received(self, status: int) -> None:
        """Note the exit code."""
        self._exit_code = status

    def exit_signal_received(self, signal: str, core_dumped: bool, msg: str, lang: str) -> None:
        """Note the OS signal that ended the command."""
        self._exit_code = -_signal_number(signal)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell how it ended: all output has been read, or the connection is gone."""
        if self.ended.done():
            return
        if self._exit_code is not None:
            self.ended.set_result(self._exit_code)
            return
        reason = f" ({exc})" if exc and str(exc) else ""
        self.ended.set_exception(
            ConnectionLostError(
                f"the connection was lost{reason} before the exit code was known; "
                "the command may still be running, so look there before running it again"
            )
        )

    def feed(self, data: bytes) -> None:
        """Give the command its standard input, and the end of it."""
        self._channel.write(data)
        self._channel.write_eof()

    async def stop(self) -> None:
        """Send SIGTERM, after the grace time SIGKILL, and close the channel in any case."""
        try:
            self._signal("TERM")
            await asyncio.wait([self.ended], timeout=STOP_GRACE)
        finally:
            self._signal("KILL")
            self._channel.abort()

    def _signal(self, name: str) -> None:
        """Send an OS signal; servers may ignore it, and the channel may be closed by now."""
        with contextlib.suppress(OSError):
            self._channel.send_signal(name)


@contextlib.asynccontextmanager
async def _connected(host: Host) -> AsyncIterator[asyncssh.SSHClientConnection]:
    """Connect and log in to ``host``; raises ``HostError`` with the reason and the remedy."""
    known_hosts = known_hosts_file(host)
    keys = {"client_keys": [host.key_file], "agent_path": None} if host.key_file else {}
    user = {"username": host.user} if host.user else {}
    try:
        connection = await asyncssh.connect(
            host.address,
            host.port,
            known_hosts=str(known_hosts),
            config=None,
            preferred_auth="publickey",
            connect_timeout=CONNECT_TIMEOUT,
            keepalive_interval=KEEPALIVE_INTERVAL,
            keepalive_count_max=KEEPALIVE_COUNT,
            **keys,
            **user,
        )
    except (asyncssh.Error, OSError, ValueError) as error:
        raise unreachable(error, host, known_hosts) from error
    try:
        yield connection
    finally:
        await _close(connection)


async def _start(
    connection: asyncssh.SSHClientConnection, host: Host, command: Command, output: Output
) -> RemoteProcess:
    process = RemoteProcess(output)
    try:
        await connection.create_session(lambda: process, _command_line(command), encoding=None)
        process.feed(command.payload if command.script else b"")
    except (asyncssh.Error, OSError) as error:
        if isinstance(error, asyncssh.ChannelOpenError) and not connection.is_closed():
            raise UnreachableError(f"{host.address} does not let a command start: {error}") from error
        raise ConnectionLostError(  # nobody knows whether the request arrived
            f"the connection was lost ({error}) while the command was started; look there before running it again"
        ) from error
    return process


def _command_line(command: Command) -> str:
    """Write the command for whatever login shell the user has there, and in place of that shell.

    A script comes through standard input, from which every common interpreter takes its program.
    """
    words = ["/bin/sh", "-c", command.text]
    if command.script:
        words = command.interpreter
        words = [*words, "-s"] if words == ["/bin/sh"] else words
    if command.environment:
        words = ["env", *(f"{name}={value}" for name, value in command.environment.items()), *words]
    return f"exec {shlex.join(words)}"


async def _close(connection: asyncssh.SSHClientConnection) -> None:
    """Say goodbye; a host that does not answer is not waited for."""
    connection.close()
    try:
        async with asyncio.timeout(STOP_GRACE):
            await connection.wait_closed()
    except TimeoutError:
        connection.abort()


def _signal_number(name: str) -> int:
    """Return the number of an SSH signal name such as ``TERM``; an unknown one counts as 1."""
    return getattr(signal, f"SIG{name}", signal.SIGHUP)


def _retrieve(ended: asyncio.Future[int]) -> None:
    """Look at the exception, which nobody else does after a command was stopped."""
    if not ended.cancelled():
        ended.exception()
