"""What the reference pages list is what exists: no more, no less, with the same values."""

from __future__ import annotations

import ast
import os
import re
from argparse import ArgumentParser
from collections.abc import Iterator
from importlib import import_module
from typing import get_type_hints

import pytest
from django.dispatch import Signal

from dynflow_app import exceptions, signals
from dynflow_app.conf import DEFAULTS, Defaults
from dynflow_app.states import (
    ACTIVE_STEP_STATES,
    PLAN_TRANSITIONS,
    STEP_TRANSITIONS,
    OccurrenceOutcome,
    PlanResult,
    ScheduleState,
    WorldState,
)
from tests.docs.blocks import DOCS, REPOSITORY, table

REFERENCE = DOCS / "reference"
APP = REPOSITORY / "dynflow_app"


def names(cell: str) -> set[str]:
    """Everything between back-quotes, or the whole cell if it has lost its only pair."""
    return set(re.findall(r"`([^`]+)`", cell)) or ({cell} - {"none", "nothing"})


def first_column(page: str, heading: str) -> list[str]:
    return [row[0] for row in table(REFERENCE / page, heading)]


def sources() -> Iterator[ast.Module]:
    for path in APP.rglob("*.py"):
        yield ast.parse(path.read_text(encoding="utf-8"))


def keywords(function: str) -> dict[str, set[str]]:
    """First argument (a name) of every call of `function`, to the named arguments it is called with."""
    found: dict[str, set[str]] = {}
    for module in sources():
        for node in ast.walk(module):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == function:
                assert isinstance(node.args[0], ast.Name)
                found.setdefault(node.args[0].id, set()).update(each.arg or "" for each in node.keywords)
    return found


def log_actions() -> set[str]:
    """Values of ``"action"`` in the ``extra`` of every log call."""
    found = set()
    for module in sources():
        for node in ast.walk(module):
            if isinstance(node, ast.keyword) and node.arg == "extra" and isinstance(node.value, ast.Dict):
                for key, value in zip(node.value.keys, node.value.values, strict=True):
                    if isinstance(key, ast.Constant) and key.value == "action":
                        found.add(ast.literal_eval(value))
    return found


# --- settings ------------------------------------------------------------------------------------------------------


def test_settings() -> None:
    documented = {row[0]: (row[1], ast.literal_eval(row[2])) for row in table(REFERENCE / "settings.md", "# Settings")}
    existing = {
        key: (getattr(kind, "__name__", None) or str(kind).replace(" | ", " or "), getattr(DEFAULTS, key))
        for key, kind in get_type_hints(Defaults).items()
    }
    if os.cpu_count() == 1:  # as the page says of it
        existing["WORKER_CHILDREN"] = (existing["WORKER_CHILDREN"][0], DEFAULTS.WORKER_CHILDREN + 1)
    spelled = {"Union": "int or None", "tuple": "tuple of str"}
    existing = {key: (spelled.get(kind, kind), value) for key, (kind, value) in existing.items()}
    assert documented == existing


def test_units_of_settings() -> None:
    for key, kind, _, unit, meaning in table(REFERENCE / "settings.md", "# Settings"):
        assert (unit == "none") == (kind in ("str", "bool", "tuple of str")), key
        assert meaning


# --- states --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("heading", "transitions"), [("## Plan states", PLAN_TRANSITIONS), ("## Step states", STEP_TRANSITIONS)]
)
def test_transitions(heading: str, transitions: dict[str, frozenset[str]]) -> None:
    documented = {row[0]: names(row[2]) for row in table(REFERENCE / "states.md", heading)}
    assert documented == {str(frm): {str(to) for to in allowed} for frm, allowed in transitions.items()}


def test_other_states() -> None:
    from dynflow_app.messages import EndedAs

    assert set(first_column("states.md", "## Plan results")) == set(PlanResult.values)
    assert set(first_column("states.md", "## World states")) == set(WorldState.values)
    assert set(first_column("states.md", "## Schedule states")) == set(ScheduleState.values)
    assert set(first_column("states.md", "## What became of an occurrence")) == set(OccurrenceOutcome.values)
    assert set(first_column("states.md", "## How an attempt ended")) == {kind.value for kind in EndedAs}


def test_active_states() -> None:
    (sentence,) = re.findall(r"^\*Active\* steps are .*$", (REFERENCE / "states.md").read_text(), re.MULTILINE)
    assert names(sentence) == {str(state) for state in ACTIVE_STEP_STATES}


# --- checks, commands ----------------------------------------------------------------------------------------------


def test_checks() -> None:
    existing = set(re.findall(r"dynflow_app\.[EW]\d+", (APP / "checks.py").read_text()))
    documented = first_column("checks.md", "# System checks")
    assert set(documented) == existing
    assert len(documented) == len(existing)


def test_commands() -> None:
    existing = {path.stem for path in (APP / "management" / "commands").glob("[!_]*.py")}
    documented = {row[0]: names(row[1]) for row in table(REFERENCE / "commands.md", "# Commands")}
    assert documented.keys() == existing
    for command, options in documented.items():
        parser = ArgumentParser(add_help=False)
        import_module(f"dynflow_app.management.commands.{command}").Command().add_arguments(parser)
        assert options == {(action.option_strings or [action.dest])[-1] for action in parser._actions}, command


# --- signals, log lines, exceptions --------------------------------------------------------------------------------


def test_signals() -> None:
    existing = {name for name, value in vars(signals).items() if isinstance(value, Signal)}
    documented = {row[0]: names(row[1]) for row in table(REFERENCE / "signals-and-logs.md", "## Signals")}
    assert documented.keys() == existing
    assert documented == keywords("announce")


def test_log_lines() -> None:
    documented = first_column("signals-and-logs.md", "## Log lines")
    assert set(documented) == log_actions()


def test_exceptions() -> None:
    family = {
        name
        for name, value in vars(exceptions).items()
        if isinstance(value, type) and issubclass(value, exceptions.DynflowError)
    }
    assert set(first_column("exceptions.md", "# Exceptions")) == family


def test_the_glossary_is_sorted() -> None:
    terms = first_column("glossary.md", "# Glossary")
    assert terms == sorted(terms)
