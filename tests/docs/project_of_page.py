"""A reader's project: the app that a page of the documentation builds, installed for the time of one test."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.db import connection

from dynflow_app.models import ExecutionPlan
from tests.docs.blocks import Block, blocks, run_code, run_dialogue

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper

    from tests.engine import Engine

APP = "hosts"


class ReadersProject:
    """Follows a page: writes its files, installs its app, runs its dialogues against an engine of the test."""

    def __init__(self, page: Path, folder: Path, settings: SettingsWrapper, engine: Engine) -> None:
        self.namespace: dict[str, Any] = {"__name__": "__console__"}
        self._settings = settings
        self._engine = engine
        self._blocks = blocks(page)
        for block in self._blocks:
            if block.path is not None:
                target = folder / block.path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(block.text)
        (folder / APP / "__init__.py").touch()

    @contextmanager
    def installed(self) -> Iterator[None]:
        """The app is in INSTALLED_APPS, and its tables are there."""
        self._settings.INSTALLED_APPS = [*self._settings.INSTALLED_APPS, APP]
        models = list(apps.get_app_config(APP).get_models())
        with connection.schema_editor() as editor:
            for model in models:
                editor.create_model(model)
        try:
            yield
        finally:
            with connection.schema_editor() as editor:
                for model in reversed(models):
                    editor.delete_model(model)
            forget_app()

    def follow(self) -> None:
        """Run everything that is not the content of a file, in order."""
        for block in self._blocks:
            if block.path is None:
                self._run(block)

    def wait(self, plan: ExecutionPlan, timeout: float | None = None) -> ExecutionPlan:
        """Stands for ``plan.wait()``: the processes that the reader started are the test's engine."""
        self._engine.run(plan)
        return plan

    def _run(self, block: Block) -> None:
        if block.language == "pycon":
            run_dialogue(block, self.namespace)
        elif block.language == "python" and "INSTALLED_APPS" not in block.text:
            run_code(block, self.namespace)


def forget_app() -> None:
    """Undo what importing the app left in Python and Django."""
    for name in [name for name in sys.modules if name.partition(".")[0] == APP]:
        del sys.modules[name]
    apps.all_models.pop(APP, None)
    apps.clear_cache()
    importlib.invalidate_caches()
