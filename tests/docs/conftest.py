"""Fixtures for pages that are followed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dynflow_app.actions import registry
from tests.support import wait_until

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper

    from tests.docs.project_of_page import ReadersProject
    from tests.engine import Engine


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
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: Engine, settings: SettingsWrapper, closed_loops: None
) -> Iterator[Callable[[Path], ReadersProject]]:
    """Makes the project of a page in an empty folder, which becomes the current one."""
    from dynflow_app.models import ExecutionPlan
    from tests.docs.project_of_page import ReadersProject

    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("_classes", "_subscribers"):  # actions of the page are known during the test only
        monkeypatch.setattr(registry, name, dict(getattr(registry, name)))
    with ExitStack() as stack:

        def make(page: Path) -> ReadersProject:
            project = ReadersProject(page, tmp_path, settings, engine)
            stack.enter_context(project.installed())
            monkeypatch.setattr(ExecutionPlan, "wait", lambda plan, timeout=None: project.wait(plan, timeout))
            return project

        yield make
