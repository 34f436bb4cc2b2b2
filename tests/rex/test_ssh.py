"""Commands through SSH, against a real server on loopback."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from project.rex.connections import Command, HostError, RefusedError, Result, Status, UnreachableError, execute, ssh
from project.rex.inventory import Connection, Host

from .helpers import PATIENCE, Caught, cancelled_after_output, gone, run
from .ssh_server import RunningServer, new_key, ssh_server

Scenario = Callable[[RunningServer], Awaitable[tuple[Result, Caught]]]


def with_server(folder: Path, scenario: Scenario) -> tuple[Result, Caught, RunningServer]:
    """Play ``scenario`` against a new server and return what it returned."""

    async def main() -> tuple[Result, Caught, RunningServer]:
        async with ssh_server(folder) as server:
            result, caught = await asyncio.wait_for(scenario(server), PATIENCE)
            return result, caught, server

    return asyncio.run(main())


def executed(folder: Path, command: Command, **changes: object) -> tuple[Result, Caught, RunningServer]:
    """Execute ``command`` on a new server, whose host is changed by ``changes``."""

    async def scenario(server: RunningServer) -> tuple[Result, Caught]:
        caught = Caught()
        return await execute(server.host(**changes), command, caught), caught

    return with_server(folder, scenario)


def test_a_command_that_succeeds(tmp_path: Path) -> None:
    command = Command('echo out "$REX_SITE"; echo err >&2', environment={"REX_SITE": "it's a $b"})

    result, caught, _ = executed(tmp_path, command)

    assert (result.status, result.exit_code, result.error) == (Status.SUCCEEDED, 0, "")
    assert (caught.text(), caught.text("stderr")) == ("out it's a $b\n", "err\n")


@pytest.mark.parametrize(
    ("text", "exit_code", "error"),
    [
        ("exit 3", 3, "exit code 3"),
        ("echo because >&2; exit 4", 4, "because"),
        ("kill -9 $$", 137, "killed by SIGKILL"),
    ],
)
def test_a_command_that_fails(tmp_path: Path, text: str, exit_code: int, error: str) -> None:
    result, *_ = executed(tmp_path, Command(text))

    assert (result.status, result.exit_code) == (Status.FAILED, exit_code)
    assert result.error == error


@pytest.mark.parametrize(
    ("script", "line"),
    [
        ("x=1\necho script $x $REX_A\n", "exec env REX_A=b /bin/sh -s"),
        ("#!/usr/bin/env -S sh -e\necho script 1 $REX_A\n", "exec env REX_A=b /usr/bin/env '-S sh -e'"),
    ],
)
def test_a_script_comes_through_standard_input(tmp_path: Path, script: str, line: str) -> None:
    command = Command(script, script=True, environment={"REX_A": "b"})

    result, caught, server = executed(tmp_path, command)

    assert (result.exit_code, caught.text()) == (0, "script 1 b\n")
    assert server.commands == [line]


def test_the_time_limit_kills_the_remote_command(tmp_path: Path) -> None:
    command = Command("echo $$; exec sleep 60", time_limit=0.3)

    result, caught, server = executed(tmp_path, command)

    assert (result.status, result.exit_code) == (Status.TIMED_OUT, None)
    assert result.error == "killed after its time limit of 0.3 s"
    assert server.signals[0] == "TERM"
    assert gone(int(caught.text()))


def test_what_ignores_sigterm_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh, "STOP_GRACE", 0.1)
    command = Command("trap '' TERM; echo $$; while :; do sleep 1; done", time_limit=0.3)

    result, caught, server = executed(tmp_path, command)

    assert result.status is Status.TIMED_OUT
    assert server.signals == ["TERM", "KILL"]
    assert gone(int(caught.text()))


def test_cancellation_kills_the_remote_command(tmp_path: Path) -> None:
    async def main() -> tuple[Caught, RunningServer]:
        async with ssh_server(tmp_path) as server:
            command = Command("echo $$; exec sleep 60")
            return await cancelled_after_output(server.host(), command), server

    caught, server = asyncio.run(main())

    assert server.signals[0] == "TERM"
    assert gone(int(caught.text()))


def test_a_connection_lost_before_the_exit_code_leaves_the_outcome_open(tmp_path: Path) -> None:
    async def scenario(server: RunningServer) -> tuple[Result, Caught]:
        caught = Caught()
        task = asyncio.create_task(execute(server.host(), Command("echo $$; read x; sleep 0.2"), caught))
        await asyncio.wait_for(caught.arrived.wait(), PATIENCE)
        server.connections[0].abort()
        return await task, caught

    result, *_ = with_server(tmp_path, scenario)

    assert (result.status, result.exit_code) == (Status.LOST, None)
    assert result.error.startswith("the connection was lost")
    assert "may still be running" in result.error


def refused(folder: Path, prepare: Callable[[RunningServer], Host], kind: type[HostError] = RefusedError) -> str:
    """Return the error of a host on which nothing was started; by default one that would come again."""

    async def main() -> str:
        async with ssh_server(folder) as server:
            caught = Caught()
            with pytest.raises(HostError) as raised:
                await asyncio.wait_for(execute(prepare(server), Command("echo never"), caught), PATIENCE)
            assert type(raised.value) is kind
            assert (server.commands, caught.chunks) == ([], [])
            return str(raised.value)

    return asyncio.run(main())


def test_an_unknown_host_key_is_never_accepted(tmp_path: Path) -> None:
    def prepare(server: RunningServer) -> Host:
        server.trust(new_key(), "192.0.2.1")
        return server.host()

    error = refused(tmp_path, prepare)

    assert f"the key of 127.0.0.1 is not known in {tmp_path}/known_hosts" in error
    assert "ssh-keyscan -p" in error


def test_another_host_key_than_expected_is_never_accepted(tmp_path: Path) -> None:
    def prepare(server: RunningServer) -> Host:
        server.trust(new_key())
        return server.host()

    assert "is not the one in" in refused(tmp_path, prepare)


def test_a_revoked_host_key_is_never_accepted(tmp_path: Path) -> None:
    def prepare(server: RunningServer) -> Host:
        known_hosts = tmp_path / "known_hosts"
        known_hosts.write_text(f"@revoked {known_hosts.read_text()}")
        return server.host()

    assert "the key of 127.0.0.1 is" in refused(tmp_path, prepare)


def test_without_known_hosts_nothing_is_reached(tmp_path: Path) -> None:
    error = refused(tmp_path, lambda server: server.host(known_hosts=str(tmp_path / "nowhere")))

    assert f"there is no file {tmp_path}/nowhere" in error


def test_a_key_that_the_host_does_not_know(tmp_path: Path) -> None:
    new_key().write_private_key(tmp_path / "other")

    error = refused(tmp_path, lambda server: server.host(key_file=str(tmp_path / "other")))

    assert "refused the login of deploy" in error
    assert f"the key {tmp_path}/other is in its authorized_keys" in error


@pytest.mark.parametrize("content", [None, "garbage", "encrypted"])
def test_a_key_file_that_cannot_be_used(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "other"
    if content == "encrypted":
        new_key().write_private_key(path, "pkcs8-pem", passphrase="secret")
    elif content:
        path.write_text(content)

    error = refused(tmp_path, lambda server: server.host(key_file=str(path)))

    assert str(path) in error
    assert ("cannot be used" if content else "cannot be read (No such file") in error


def test_a_port_where_nobody_listens(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    error = refused(tmp_path, lambda server: server.host(port=port), UnreachableError)

    assert error.startswith(f"127.0.0.1 port {port} refused the connection; check")


def test_a_host_that_accepts_and_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh, "CONNECT_TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        error = refused(tmp_path, lambda server: server.host(port=port), UnreachableError)

    assert "did not answer in time" in error


def test_a_name_without_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_address(*_args: object, **_kwargs: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_address)
    (tmp_path / "known_hosts").touch()
    host = Host("nowhere", connection=Connection.SSH, known_hosts=str(tmp_path / "known_hosts"))

    with pytest.raises(UnreachableError) as raised:
        run(host, Command("true"))

    assert str(raised.value).startswith("nowhere has no address (Name or service not known)")


def test_a_host_that_lets_nobody_run_commands(tmp_path: Path) -> None:
    async def scenario(server: RunningServer) -> tuple[Result, Caught]:
        server.refuses_commands = True
        caught = Caught()
        return await execute(server.host(), Command("true"), caught), caught

    with pytest.raises(UnreachableError, match="does not let a command start"):
        with_server(tmp_path, scenario)


def test_a_connection_lost_while_the_command_is_started_leaves_the_outcome_open(tmp_path: Path) -> None:
    async def scenario(server: RunningServer) -> tuple[Result, Caught]:
        server.breaks_on_commands = True
        caught = Caught()
        return await execute(server.host(), Command("true"), caught), caught

    result, *_ = with_server(tmp_path, scenario)

    assert (result.status, result.exit_code) == (Status.LOST, None)
    assert "while the command was started" in result.error


def test_keys_named_by_the_inventory_only(tmp_path: Path) -> None:
    result, *_ = executed(tmp_path, Command("true"), key_file=str(tmp_path / "key_file"))

    assert result.status is Status.SUCCEEDED
