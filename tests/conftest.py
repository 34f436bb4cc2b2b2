"""Fixtures shared by all tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from project.servers import EmbeddedServers
from tests.servers_plugin import State
from tests.support import Processes


@pytest.fixture(scope="session")
def servers() -> EmbeddedServers:
    """The embedded servers of this test process; a test may stop and start them one by one.

    Needs the marker ``servers``. What a test has stopped is started again after it.
    """
    if State.servers is None:
        pytest.skip(State.skip_reason or "servers from the environment cannot be stopped by tests")
    return State.servers


@pytest.fixture
def processes(tmp_path: Path, transactional_db: None) -> Iterator[Processes]:
    """Starts ``manage.py`` processes on the test database; kills what is left at the end of the test."""
    with Processes(tmp_path) as started:
        yield started
