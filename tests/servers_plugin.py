"""pytest plugin: decides which database and Redis the tests use, before Django's settings load.

- ``--sqlite`` (or DYNFLOW_TEST_SERVERS=0): SQLite, no Redis. Tests marked ``servers`` are skipped.
- POSTGRES_HOST and REDIS_URL both set: those servers are used.
- otherwise: embedded PostgreSQL and Valkey are started, one pair per xdist worker, in a temporary
  folder. If they are unavailable, SQLite is used and tests marked ``servers`` are skipped with the reason.

Each process gets a temporary DYNFLOW_HOME of its own. The plugin is named in pyproject.toml.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest

from project.servers import EmbeddedServers, ServersUnavailable

NAME = "tests.servers_plugin"
SERVER_VARIABLES = ("POSTGRES_HOST", "POSTGRES_PORT", "POSTGRES_DB", "POSTGRES_USER", "POSTGRES_PASSWORD")
UNREACHABLE_REDIS = "redis://127.0.0.1:1/0"


class State:
    """What was decided for this process."""

    home: Path | None = None
    servers: EmbeddedServers | None = None
    skip_reason: str = ""
    postgres_pid: int | None = None
    """PostgreSQL's process when the current test began; Django's connections do not survive another."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that keeps the tests on SQLite."""
    parser.addoption(
        "--sqlite",
        action="store_true",
        help="use SQLite and no Redis; skips tests marked 'servers'",
    )


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None, object, object]:
    """Prepare the environment; a wrapper, because pytest-django reads the settings in this very hook."""
    # xdist workers do not see "-p" of the configuration file, but they do inherit the environment.
    os.environ["PYTEST_PLUGINS"] = ",".join({*os.environ.get("PYTEST_PLUGINS", "").split(","), NAME} - {""})
    options = early_config.known_args_namespace
    if not only_coordinates(options):
        prepare(sqlite=options.sqlite or os.environ.get("DYNFLOW_TEST_SERVERS") == "0")
    return (yield)


def only_coordinates(options: object) -> bool:
    """Whether this process runs no test itself: an xdist controller, or a mere listing."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        return False
    listing = ("collectonly", "help", "version", "markers", "showfixtures")
    return any(bool(getattr(options, name, None)) for name in ("numprocesses", *listing))


def prepare(*, sqlite: bool) -> None:
    """Fill the environment for Django's settings."""
    if "PYTEST_XDIST_WORKER" in os.environ or "DYNFLOW_HOME" not in os.environ:
        base = "/tmp" if Path("/tmp").is_dir() else None  # noqa: S108 - mkdtemp makes it private
        State.home = Path(tempfile.mkdtemp(prefix="dynflow-test-", dir=base))
        os.environ["DYNFLOW_HOME"] = str(State.home)
        atexit.register(shutil.rmtree, State.home, ignore_errors=True)
    if sqlite:
        use_sqlite("--sqlite was given")
    elif not (os.environ.get("POSTGRES_HOST") and os.environ.get("REDIS_URL")):
        start_servers()


def use_sqlite(reason: str) -> None:
    """Forget every server address; ``reason`` is shown for skipped tests."""
    State.skip_reason = reason
    for name in SERVER_VARIABLES:
        os.environ.pop(name, None)
    os.environ["REDIS_URL"] = UNREACHABLE_REDIS


def start_servers() -> None:
    """Start the embedded servers, or fall back to SQLite."""
    servers = EmbeddedServers(Path(os.environ["DYNFLOW_HOME"]) / "servers", temporary=True)
    try:
        os.environ.update(servers.start().environ)
    except ServersUnavailable as error:
        use_sqlite(str(error))
    else:
        State.servers = servers


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs servers where there are none; give it an empty Valkey otherwise."""
    if item.get_closest_marker("servers") is None:
        return
    if State.skip_reason:
        pytest.skip(State.skip_reason)
    if State.servers is not None:
        State.postgres_pid = State.servers.postgres.pid
        import redis

        from dynflow_app import transport

        with redis.Redis.from_url(State.servers.environ["REDIS_URL"]) as connection:
            connection.flushall()
        transport.reset()  # the database is another installation in each test, and its bells have other names


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Start again what a test has stopped, before its fixtures clean the database."""
    if State.servers is None or item.get_closest_marker("servers") is None:
        return
    State.servers.start()
    if State.servers.postgres.pid != State.postgres_pid:
        from django.db import connections

        connections.close_all()


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    """Stop the servers and remove the temporary home."""
    if State.servers is not None:
        State.servers.stop()
        State.servers = None
    if State.home is not None:
        shutil.rmtree(State.home, ignore_errors=True)
        State.home = None
