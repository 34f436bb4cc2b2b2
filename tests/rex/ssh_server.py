"""A real SSH server on loopback that runs commands as subprocesses of the test."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import asyncssh

from project.rex.inventory import Connection, Host


class ShellSession(asyncssh.SSHServerSession[bytes]):
    """Runs what the client asks for, with its standard input, in a process group of its own."""

    def __init__(self, server: RunningServer) -> None:
        self.server, self.stdin = server, bytearray()

    def connection_made(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
        self.channel = chan

    def exec_requested(self, command: str) -> bool:
        self.command = command
        self.server.commands.append(command)
        if self.server.breaks_on_commands:
            self.server.connections[-1].abort()
        return not self.server.refuses_commands

    def data_received(self, data: bytes, datatype: int | None) -> None:
        self.stdin += data

    def eof_received(self) -> bool:
        self.server.tasks.append(asyncio.create_task(self.execute()))
        return True

    def signal_received(self, signal: str) -> None:
        self.server.signals.append(signal)
        self.kill(signal)

    def kill(self, name: str) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.child.pid, signal.Signals[f"SIG{name}"])

    async def execute(self) -> None:
        pipe = asyncio.subprocess.PIPE
        self.child = await asyncio.create_subprocess_exec(
            "/bin/sh", "-c", self.command, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True
        )
        assert self.child.stdin
        self.child.stdin.write(self.stdin)
        self.child.stdin.close()
        await asyncio.gather(
            self.forward(self.child.stdout, None),
            self.forward(self.child.stderr, asyncssh.EXTENDED_DATA_STDERR),
        )
        self.report(await self.child.wait())

    async def forward(self, reader: asyncio.StreamReader | None, datatype: int | None) -> None:
        assert reader
        while data := await reader.read(4096):
            with contextlib.suppress(OSError):
                self.channel.write(data, datatype)

    def report(self, exit_code: int) -> None:
        with contextlib.suppress(OSError):
            if exit_code < 0:
                self.channel.exit_with_signal(signal.Signals(-exit_code).name.removeprefix("SIG"))
            else:
                self.channel.exit(exit_code)


@dataclass
class RunningServer(asyncssh.SSHServer):
    """The server, the files that a client needs, and what clients did."""

    folder: Path
    port: int = 0
    refuses_commands: bool = False
    breaks_on_commands: bool = False
    commands: list[str] = field(default_factory=list)
    signals: list[str] = field(default_factory=list)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    connections: list[asyncssh.SSHServerConnection] = field(default_factory=list)

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        """Remember the connection, for tests that break it."""
        self.connections.append(conn)

    def session_requested(self) -> ShellSession:
        """Run commands."""
        return ShellSession(self)

    def host(self, **changes: object) -> Host:
        """Return the host as an inventory would have it."""
        files = {name: str(self.folder / name) for name in ("key_file", "known_hosts")}
        settings = {"address": "127.0.0.1", "port": self.port, "user": "deploy", **files, **changes}
        return Host("loopback", connection=Connection.SSH, **settings)  # type: ignore[arg-type]

    def trust(self, key: asyncssh.SSHKey, address: str = "127.0.0.1") -> None:
        """Write ``known_hosts`` so that ``key`` is expected from ``address``."""
        line = f"[{address}]:{self.port} {key.export_public_key().decode()}"
        (self.folder / "known_hosts").write_text(line)


def new_key() -> asyncssh.SSHKey:
    """Make a key."""
    return asyncssh.generate_private_key("ssh-ed25519")


@contextlib.asynccontextmanager
async def ssh_server(folder: Path) -> AsyncIterator[RunningServer]:
    """Serve on a free port of loopback, with new keys that client and server know of each other."""
    server, host_key, client_key = RunningServer(folder), new_key(), new_key()
    client_key.write_private_key(folder / "key_file")
    client_key.write_public_key(folder / "authorized_keys")
    acceptor = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_factory=lambda: server,
        server_host_keys=[host_key],
        authorized_client_keys=str(folder / "authorized_keys"),
        encoding=None,
        config=None,
    )
    server.port = acceptor.get_port()
    server.trust(host_key)
    try:
        yield server
    finally:
        acceptor.close()
        await acceptor.wait_closed()
        await asyncio.gather(*server.tasks)
