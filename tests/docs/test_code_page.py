"""What the page about the code names is what exists: every room, every module of the ledger, every function."""

from __future__ import annotations

import re
from importlib import import_module
from itertools import chain
from pathlib import Path

import pytest

from tests.docs.blocks import DOCS, REPOSITORY, table

APP = REPOSITORY / "dynflow_app"
PAGE = DOCS / "explanation" / "code.md"
TEXT = PAGE.read_text(encoding="utf-8")


def names(cell: str) -> list[str]:
    """Everything between back-quotes, or the whole cell if it has lost its only pair."""
    return re.findall(r"`([^`]+)`", cell) or [cell]


def rooms(folder: str = "") -> set[str]:
    """What is in a folder of the app, without what Python, or a room that is gone, left there."""
    return {path.relative_to(APP / folder).parts[0] for path in (APP / folder).rglob("*") if is_ours(path)}


def is_ours(path: Path) -> bool:
    """Whether it is a file that somebody wrote."""
    return path.is_file() and "__pycache__" not in path.parts


def test_every_room_is_named_once() -> None:
    listed = list(chain.from_iterable(names(row[0]) for row in table(PAGE, "## The rooms")))
    assert sorted(listed) == sorted(rooms())


def test_every_module_of_the_ledger_is_named() -> None:
    cells = [row[1] for row in table(PAGE, "The largest room is the ledger:")]
    assert set(chain.from_iterable(map(names, cells))) == rooms("ledger") - {"__init__.py"}


def test_the_rooms_stand_in_the_order_of_the_layers() -> None:
    text = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    (listed,) = re.findall(r"^layers = \[\n(.*?)^\]", text, re.MULTILINE | re.DOTALL)
    layer = {
        name.partition(".")[0]: number
        for number, line in enumerate(listed.splitlines())
        for name in re.findall(r"\(([\w.]+)\)", line)
    }
    order = [
        layer[name.removesuffix(".py")]
        for row in table(PAGE, "## The rooms")
        for name in names(row[0])
        if name.removesuffix(".py") in layer and name != "callbacks"  # which is in three of them
    ]
    assert order == sorted(order)


def life() -> list[str]:
    """The names in both tables about the life of a step."""
    rows = [*table(PAGE, "## The life of one step"), *table(PAGE, "would follow:")]
    return [name for row in rows for name in names(row[1])]


@pytest.mark.parametrize("name", life())
def test_what_a_step_meets_exists(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    assert hasattr(import_module(f"dynflow_app.{module}"), attribute)


def test_paths_exist() -> None:
    paths = [path for path in re.findall(r"`([\w/]+/[\w.]+)`", TEXT) if "." in path or path.startswith("tests/")]
    assert "ledger/concluding.py" in paths
    assert [path for path in paths if not any((root / path).exists() for root in (APP, REPOSITORY))] == []


def test_there_are_ten_tests_to_begin_with() -> None:
    listed = re.findall(r"^\d+\. `(test_\w+\.py)`", TEXT, re.MULTILINE)
    assert len(set(listed)) == 10
    assert [name for name in listed if not (REPOSITORY / "tests" / "integration" / name).exists()] == []
