"""Everything that the ledger holds is written through a few doors: SQL stands in models and ledger, states change by
verbs that look the change up, and no file is longer than others may read."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from tests.support import REPOSITORY

PACKAGE = REPOSITORY / "dynflow_app"
OWNERS = ("models", "ledger", "migrations")
"""Packages that speak to the database in its own words."""
BEGINS_LIKE_SQL = re.compile(r"^\s*(SELECT|UPDATE|INSERT INTO|DELETE FROM|WITH RECURSIVE|WITH \w+ AS)\b")
SETS_STATE = re.compile(r"\bSET\s+state\s*=")
GUARDS = frozenset({"require_legal", "_move", "ready_sql", "make_ready", "make_these_ready"})
"""Each of these looks the change up in the tables of `states`."""
VERBS = {
    ("models/base.py", "_move"): "whatever a verb of a queryset says",
    ("ledger/steps.py", "forget"): "running steps end with an error",
    ("ledger/steps.py", "_withdraw"): "ready steps that nobody has claimed are pending, failed or cancelled",
    ("ledger/finalizing.py", "claim_along"): "the rest of a finalize phase runs with its first step",
    ("ledger/claiming.py", "_begin"): "ready steps run",
    ("ledger/recording.py", "_write_steps"): "running steps end, as their outcome says",
    ("ledger/events.py", "note_handled"): "events are handled",
    ("ledger/lines.py", "enter"): "locks are waited for",
    ("ledger/lines.py", "unlock"): "locks are given back",
}
"""Functions that write a state in bulk, and what for."""
SCRIPTS = {"ledger/functions_1.sql"}
"""Functions of the database, which a test compares with the verbs."""
FIRST_STATES = {"planning/storing.py", "planning/copying.py", "planning/draft.py"}
"""Modules that give plans their first state, before they are stored."""
VALUES = frozenset({"outcome", "first", "started", "ended", "self"})
"""Names of what is no row of the ledger but an `Outcome`, or an object of its own kind."""


def modules() -> list[str]:
    """Every module of the package, but for migrations."""
    found = (path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))
    return sorted(name for name in found if "migrations/" not in name)


def tree_of(name: str) -> ast.Module:
    """What the module says."""
    return ast.parse((PACKAGE / name).read_text())


def functions_of(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function and method."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node


def texts_of(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Lines and texts of all strings that are not documentation; braces for what a formatted one is filled with."""
    documentation = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    parts: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts |= {id(value) for value in node.values}
            yield (
                node.lineno,
                "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values),
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation | parts:
            yield node.lineno, node.value


def name_of(call: ast.Call) -> str:
    """Of the function or method that is called."""
    return getattr(call.func, "attr", getattr(call.func, "id", ""))


def writes_state(function: ast.AST) -> bool:
    """Whether it says ``update(state=...)``, or the same in SQL."""
    calls = [node for node in ast.walk(function) if isinstance(node, ast.Call)]
    updates = (call for call in calls if name_of(call) in ("update", "bulk_update"))
    return any(keyword.arg == "state" for call in updates for keyword in call.keywords) or any(
        SETS_STATE.search(text) for _, text in texts_of(function)
    )


def innermost(tree: ast.Module) -> dict[str, ast.FunctionDef | ast.AsyncFunctionDef]:
    """Functions that write a state themselves, by name; one around another is not meant."""
    writing = [function for function in functions_of(tree) if writes_state(function)]
    return {
        function.name: function
        for function in writing
        if not any(other is not function and other in ast.walk(function) for other in writing)
    }


def assigned_states(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Lines in which ``something.state`` is assigned, and what something is."""
    for node in ast.walk(tree):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target] if hasattr(node, "target") else []
        for target in targets:
            for each in ast.walk(target):
                if isinstance(each, ast.Attribute) and each.attr == "state" and isinstance(each.ctx, ast.Store):
                    yield each.lineno, ast.unparse(each.value)


# --- (a) SQL -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in modules() if not name.startswith(OWNERS)])
def test_only_models_and_ledger_speak_sql(name: str) -> None:
    tree = tree_of(name)

    # then it asks the database for no cursor
    cursors = [
        f"{name}:{node.lineno}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in ("cursor", "Cursor")
    ]
    assert cursors == []

    # and has no statement, either
    statements = [f"{name}:{line} {text[:60]}" for line, text in texts_of(tree) if BEGINS_LIKE_SQL.match(text)]
    assert statements == []


# --- (b) states ----------------------------------------------------------------------------------------------------


def test_states_are_written_by_verbs_only() -> None:
    # given every function that writes a state in bulk
    found = {(name, function) for name in modules() for function in innermost(tree_of(name))}

    # then it is one of those that are there for it
    assert sorted(found) == sorted(VERBS)


@pytest.mark.parametrize(("name", "function"), sorted(VERBS))
def test_every_verb_looks_the_change_up(name: str, function: str) -> None:
    called = {name_of(node) for node in ast.walk(innermost(tree_of(name))[function]) if isinstance(node, ast.Call)}
    assert called & GUARDS


def test_what_makes_steps_ready_looks_the_change_up() -> None:
    """The assignments come from one function, which is used by all statements that need them."""
    ready = re.compile(r"(?<!\.)\bstate = '(\{\}|ready)',")
    places = [
        (name, function.name)
        for name in modules()
        for function in functions_of(tree_of(name))
        if any(ready.search(text) and "SET" not in text for _, text in texts_of(function))
    ]
    assert places == [("ledger/steps.py", "ready_sql")]
    (function,) = (each for each in functions_of(tree_of("ledger/steps.py")) if each.name == "ready_sql")
    assert "require_legal" in {name_of(node) for node in ast.walk(function) if isinstance(node, ast.Call)}


@pytest.mark.parametrize("name", [name for name in modules() if name not in FIRST_STATES])
def test_no_row_is_given_a_state_by_hand(name: str) -> None:
    offenders = [f"{name}:{line} {of}.state" for line, of in assigned_states(tree_of(name)) if of not in VALUES]
    assert offenders == []


def test_models_change_their_own_state_before_they_are_stored_only() -> None:
    """A method of a row that assigns its state is about one that is new, or one that its caller has locked."""
    known = {
        "models/execution_plan.py": {"as_failed"},
        "models/schedule.py": {"pause", "wake", "await_next"},
        "models/world.py": {"come_back"},
    }
    for name in modules():
        if name.startswith("models/"):
            methods = {each.name for each in functions_of(tree_of(name)) if list(assigned_states(each))}
            assert methods <= known.get(name, set()) | {"__init__"}, name


def test_scripts_of_the_database_are_known() -> None:
    """They are written by hand, so a test has to compare each with the general way."""
    assert {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.sql")} == SCRIPTS


# --- (c) lengths ---------------------------------------------------------------------------------------------------


def test_no_module_asks_to_be_longer() -> None:
    excused = [path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py") if "# long:" in path.read_text()]
    assert excused == []


# --- (d) indexes ---------------------------------------------------------------------------------------------------


def test_every_index_is_explained_and_no_other() -> None:
    from django.apps import apps

    page = (REPOSITORY / "docs/explanation/ledger.md").read_text()
    explained = set(re.findall(r"^\| `(dynflow_\w+)` \|", page, re.MULTILINE))
    ours = {index.name for model in apps.get_app_config("dynflow_app").get_models() for index in model._meta.indexes}
    assert explained == ours
