"""Fixtures for what has to hold whichever way the ledger takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.testapp.journal import Journal

if TYPE_CHECKING:
    from tests.engine import Engine
    from tests.turns import Taken, Turns


@pytest.fixture(params=[pytest.param("function", marks=pytest.mark.servers), "general"])
def way(request: pytest.FixtureRequest, engine: Engine, journal: Journal) -> Iterator[Taken]:
    """How turns are taken, and what was counted."""
    from tests.turns import one_way

    with one_way(request.param) as taken:
        yield taken


@pytest.fixture
def turns(engine: Engine, way: Taken) -> Turns:
    """A worker."""
    from tests.turns import Turns

    return Turns(engine.world)
