"""Fixtures shared by all tests."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from project.servers import POSTGRES_SOCKET, EmbeddedServers
from tests.proxy import Proxy
from tests.servers_plugin import State
from tests.support import Processes
from tests.testapp.journal import VARIABLE, Journal

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper

    from tests.engine import Engine

DATABASE_FIXTURES = {"db": "db", "transactional_db": "transactional_db", "processes": "transactional_db"}


@pytest.fixture(scope="session")
def servers() -> EmbeddedServers:
    """The embedded servers of this test process; a test may stop and start them one by one.

    Needs the marker ``servers``. What a test has stopped is started again after it.
    """
    if State.servers is None:
        pytest.skip(State.skip_reason or "servers from the environment cannot be stopped by tests")
    return State.servers


@pytest.fixture
def database_proxy(servers: EmbeddedServers) -> Iterator[Proxy]:
    """A door to PostgreSQL; processes with ``proxy.environ`` go through it, the test itself does not."""
    folder = Path(servers.environ["POSTGRES_HOST"])
    place = tempfile.TemporaryDirectory(prefix="dynflow-door-")
    with place, Proxy(folder / POSTGRES_SOCKET, Path(place.name) / POSTGRES_SOCKET) as proxy:
        yield proxy


@pytest.fixture
def processes(tmp_path: Path, transactional_db: None) -> Iterator[Processes]:
    """Starts ``manage.py`` processes on the test database; kills what is left at the end of the test."""
    with Processes(tmp_path) as started:
        yield started


@pytest.fixture(autouse=True)
def _invariants(request: pytest.FixtureRequest) -> Iterator[None]:
    """After every test that uses the database, the ledger must make sense."""
    database = database_fixture(request)
    if database is None:
        yield
        return
    request.getfixturevalue(database)  # so that the check comes before its clean-up
    yield
    from django.db import connection

    from tests.invariants import violations

    if not connection.needs_rollback and request.node.get_closest_marker("invented") is None:
        assert violations() == []


def database_fixture(request: pytest.FixtureRequest) -> str | None:
    """Name of the fixture that gives the test its database; None if it uses none."""
    marker = request.node.get_closest_marker("django_db")
    if marker is not None:
        return "transactional_db" if marker.kwargs.get("transaction") else "db"
    used = [fixture for name, fixture in DATABASE_FIXTURES.items() if name in request.fixturenames]
    return used[-1] if used else None


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Journal:
    """What actions of the test app did, and the switches that make them fail."""
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    return Journal(tmp_path)


@pytest.fixture
def engine(transactional_db: None, settings: SettingsWrapper) -> Engine:
    """Runs plans in the test's own thread, without Redis."""
    settings.DYNFLOW = {**settings.DYNFLOW, "EXECUTOR": "in-process"}
    from tests.engine import Engine

    return Engine()
