"""Fixtures for pages that are followed."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from dynflow_app.actions import registry
from tests.support import wait_until

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper

    from tests.docs.following import FollowedPage
    from tests.docs.project_of_page import ReadersProject
    from tests.engine import Engine


@pytest.fixture
def known_actions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Actions that a test defines are known during the test only."""
    for name in ("_classes", "_subscribers"):
        monkeypatch.setattr(registry, name, dict(getattr(registry, name)))


@pytest.fixture
def page(
    engine: Engine, known_actions: None, closed_loops: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., FollowedPage]]:
    """Opens a how-to: ``page("poll", server=...)`` with what its code takes for granted.

    A test has to follow it to its last block, unless it says ``whole=False``.
    """
    from tests.docs.following import MODULE, FollowedPage

    module = ModuleType(MODULE)
    monkeypatch.setitem(sys.modules, MODULE, module)
    opened: list[FollowedPage] = []

    def read(name: str, *, whole: bool = True, **world: Any) -> FollowedPage:  # functions, objects: whatever it uses
        vars(module).update(world)
        found = FollowedPage(name, module)
        opened.extend([found] * whole)
        return found

    yield read
    assert [each.path.name for each in opened if not each.is_read] == [], "blocks were left out"


@pytest.fixture
def closed_loops(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Closes the event loops that pumps made: they end with their process, but a test makes one after the other."""
    made: list[asyncio.AbstractEventLoop] = []
    new_event_loop = asyncio.new_event_loop

    def remember() -> asyncio.AbstractEventLoop:
        made.append(new_event_loop())
        return made[-1]

    monkeypatch.setattr(asyncio, "new_event_loop", remember)
    yield
    for loop in made:
        wait_until(lambda loop=loop: not loop.is_running(), timeout=5, describe="an event loop ends")
        loop.close()


@pytest.fixture
def readers_project(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    engine: Engine,
    settings: SettingsWrapper,
    closed_loops: None,
    known_actions: None,
) -> Iterator[Callable[[Path], ReadersProject]]:
    """Makes the project of a page in an empty folder, which becomes the current one."""
    from dynflow_app.models import ExecutionPlan
    from tests.docs.project_of_page import ReadersProject

    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    with ExitStack() as stack:

        def make(page: Path) -> ReadersProject:
            project = ReadersProject(page, tmp_path, settings, engine)
            stack.enter_context(project.installed())
            monkeypatch.setattr(ExecutionPlan, "wait", lambda plan, timeout=None: project.wait(plan, timeout))
            return project

        yield make
