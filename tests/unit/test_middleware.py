"""Middleware: who is in the chain, in which order, and what it may do."""

# long: many small cases of one subject

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st

from dynflow_app import BaseAction
from dynflow_app.actions import registry
from dynflow_app.actions.base import bind
from dynflow_app.actions.middleware import Middleware, Remove, Use, amended, chain, entered, presented
from dynflow_app.exceptions import PlanningError, Suspend
from dynflow_app.payloads.masking import MASK

HOOKS = ("plan", "run", "finalize", "revert", "cancel")
happened: list[str] = []


class Recording(Middleware):
    """Writes down what it wraps."""

    @contextmanager
    def wrap(self, hook: str) -> Iterator[None]:
        name = type(self).__name__
        happened.append(f"{name} {hook}")
        try:
            yield
        except BaseException as error:
            happened.append(f"{name} {type(error).__name__}")
            raise
        happened.append(f"{name} done")

    def run(self, action: BaseAction) -> AbstractContextManager[Any]:
        return self.wrap("run")


class A(Recording):
    """One."""


class B(Recording):
    """Another."""


class C(Recording):
    """A third."""


class D(Recording):
    """A fourth."""


class Broken(Recording):
    """Fails on entering."""

    def run(self, action: BaseAction) -> AbstractContextManager[Any]:
        raise OSError("no quota")


class Swallowing(Middleware):
    """Makes a success of every error."""

    @contextmanager
    def run(self, action: BaseAction) -> Iterator[None]:
        try:
            yield
        except ValueError:
            happened.append("swallowed")


class Greedy(Middleware):
    """Cannot be made."""

    def __init__(self, argument: str) -> None:
        self.argument = argument


@pytest.fixture(autouse=True)
def _fresh() -> None:
    happened.clear()


def action(*rules: Any, base: type[BaseAction] = BaseAction) -> type[BaseAction]:
    """An action class with these middleware rules."""
    return type("Provision", (base,), {"middleware": rules, "__module__": __name__})


def globally(*classes: str) -> override_settings:
    """With these classes of this module in the setting."""
    return override_settings(
        DYNFLOW={"EXECUTOR": "in-process", "MIDDLEWARE": [f"{__name__}.{each}" for each in classes]}
    )


def names(action_class: type[BaseAction] | None) -> str:
    """The chain, outermost first."""
    return " ".join(type(each).__name__ for each in chain(action_class))


# --- who and in which order ----------------------------------------------------------------------------------------


def test_the_setting_comes_first_then_base_classes() -> None:
    base = action(C)
    with globally("A", "B"):
        assert names(action(Use(D), base=base)) == "A B C D"
        assert names(BaseAction) == "A B"
        assert names(None) == "A B"
    assert names(action(D, base=base)) == "C D"
    assert names(BaseAction) == ""


def test_the_chain_is_made_once_and_follows_the_setting() -> None:
    mine = action(A)

    assert chain(mine) is chain(mine)
    assert chain(mine)[0] is chain(action(A, B))[0]
    with globally("B"):
        assert names(mine) == "B A"
    assert names(mine) == "A"


def test_rules_may_name_global_and_inherited_ones() -> None:
    base = action(B, C)
    with globally("A"):
        assert names(action(Use(D, before=A), base=base)) == "D A B C"
        assert names(action(Use(D, before=C), base=base)) == "A B D C"
        assert names(action(Use(D, before=B, after=A), base=base)) == "A D B C"
        assert names(action(Use(D, replace=B), base=base)) == "A D C"
        assert names(action(Remove(A), Remove(C), base=base)) == "B"
        assert names(action(Use(D, after=A), Remove(A), base=base)) == "B C D"


def test_a_rule_about_a_middleware_holds_for_what_replaces_it() -> None:
    base = action(A, Use(B, before=A))
    assert names(base) == "B A"

    assert names(action(Use(C, replace=A), base=base)) == "B C"
    assert names(action(Use(C, replace=B), base=base)) == "C A"
    assert names(action(Use(C, replace=A), Use(D, replace=C), base=base)) == "B D"
    assert names(action(Remove(A), base=base)) == "B"
    assert names(action(Remove(A), A, base=base)) == "B A"
    assert names(action(Use(B, replace=A), base=base)) == "B"
    assert names(action(Use(C, replace=A), Use(A, replace=C), base=base)) == "B A"


def test_who_is_listed_again_stays_where_it_was() -> None:
    assert names(action(A, base=action(A, B))) == "A B"
    assert names(action(Use(A, after=B), base=action(A, B))) == "B A"


CLASSES = [type(f"M{number}", (Middleware,), {}) for number in range(7)]


@given(st.permutations(CLASSES), st.permutations(CLASSES), st.data())
def test_every_order_that_is_asked_for_is_kept(listed: list[Any], wanted: list[Any], data: st.DataObject) -> None:
    """Any rules without contradiction, however they are listed and spread over setting and classes."""
    rules, asked = [], []
    for each in listed:
        place = wanted.index(each)
        before = data.draw(st.none() | st.sampled_from(wanted[place + 1 :] or [None]))
        after = data.draw(st.none() | st.sampled_from(wanted[:place] or [None]))
        rules.append(Use(each, before=before, after=after))
        asked += [(each, before)] * bool(before) + [(after, each)] * bool(after)

    cut = data.draw(st.integers(0, len(rules)))
    found = [type(each) for each in chain(action(*rules[cut:], base=action(*rules[:cut])))]  # read together

    assert sorted(found, key=CLASSES.index) == CLASSES
    assert all(found.index(outer) < found.index(inner) for outer, inner in asked)
    if not asked:
        assert found == listed


@given(st.integers(1, 7), st.data())
def test_a_circle_is_an_error_that_names_two(size: int, data: st.DataObject) -> None:
    circle = [
        Use(one, before=other) if data.draw(st.booleans()) else Use(other, after=one)
        for one, other in itertools.pairwise([*CLASSES[:size], CLASSES[0]])
    ]
    listed = data.draw(st.permutations([*circle, *CLASSES]))

    with pytest.raises(PlanningError, match=r"Provision has no order: M\d and M\d each"):
        chain(action(*listed))


@pytest.mark.parametrize(
    "rules", [(Use(B, before=A),), (Use(B, after=A),), (Use(B, replace=A),), (B, Remove(A)), (B, Use(B, after=A))]
)
def test_an_unknown_name_is_an_error_that_names_both(rules: tuple[Any, ...]) -> None:
    with pytest.raises(PlanningError) as caught:
        chain(action(*rules))

    assert " names A, but Provision has no such middleware" in str(caught.value)
    assert "B" in str(caught.value) or "Remove(A)" in str(caught.value)


@pytest.mark.parametrize("rules", [("A",), (A(),), (BaseAction,), (Use(BaseAction),), (None,)])  # type: ignore[arg-type]
def test_what_is_no_middleware_is_refused(rules: tuple[Any, ...]) -> None:
    with pytest.raises(PlanningError, match="list Middleware classes"):
        chain(action(*rules))


def test_other_mistakes_say_what_to_do() -> None:
    with pytest.raises(PlanningError, match="must be a tuple"):
        chain(type("Wrong", (BaseAction,), {"middleware": A, "__module__": __name__}))
    with pytest.raises(PlanningError, match="Greedy, a middleware, must need no arguments"):
        chain(action(Greedy))
    with globally("Nowhere"), pytest.raises(PlanningError, match="cannot be imported"):
        chain(BaseAction)
    with globally("happened"), pytest.raises(PlanningError, match="no subclass of Middleware"):
        chain(BaseAction)


# --- wrapping ------------------------------------------------------------------------------------------------------


def test_every_hook_does_nothing_unless_it_is_overridden() -> None:
    mine = action(Middleware)
    instance = mine()
    for hook in HOOKS:
        with entered(chain(mine), hook, instance):  # type: ignore[arg-type]
            happened.append(hook)

    assert happened == list(HOOKS)
    given = {"a": 1}
    assert amended(chain(mine), instance, given) is given
    assert chain(mine)[0].present("x", given) is given


def test_the_outermost_enters_first_and_leaves_last() -> None:
    mine = action(A, B)
    with entered(chain(mine), "run", mine()):
        happened.append("run")

    assert happened == ["A run", "B run", "run", "B done", "A done"]


def test_a_coroutine_is_wrapped_to_its_end() -> None:
    mine = action(A)

    async def main() -> None:
        with entered(chain(mine), "run", mine()):
            await asyncio.sleep(0)
            happened.append("run")

    asyncio.run(main())
    assert happened == ["A run", "run", "A done"]


@pytest.mark.parametrize("error", [ValueError, StopIteration, Suspend, SystemExit])
def test_exceptions_go_through_every_middleware(error: type[BaseException]) -> None:
    mine = action(A, B)
    with pytest.raises(error), entered(chain(mine), "run", mine()):
        raise error

    assert happened == ["A run", "B run", f"B {error.__name__}", f"A {error.__name__}"]


def test_a_middleware_that_fails_is_left_by_those_around_it() -> None:
    mine = action(A, Broken, B)
    with pytest.raises(OSError, match="no quota"), entered(chain(mine), "run", mine()):
        happened.append("run")

    assert happened == ["A run", "A OSError"]


def test_a_middleware_may_swallow_an_error() -> None:
    mine = action(A, Swallowing, B)
    with entered(chain(mine), "run", mine()):
        raise ValueError

    assert happened == ["A run", "B run", "B ValueError", "swallowed", "A done"]


# --- changing what is stored and shown -----------------------------------------------------------------------------


class Adding(Middleware):
    """Adds to the input, and to what is shown."""

    def planned(self, action: BaseAction, given: dict[str, Any]) -> dict[str, Any]:
        return {**given, "by": [*given.get("by", []), type(self).__name__]}

    def present(self, action_name: str, data: dict[str, Any]) -> dict[str, Any]:
        data["hosts"].append(type(self).__name__)
        return {**data, "of": action_name}


class AddingMore(Adding):
    """Once more."""


class Forgetful(Middleware):
    """Returns nothing."""

    def planned(self, action: BaseAction, given: dict[str, Any]) -> dict[str, Any]:
        return None  # type: ignore[return-value]

    def present(self, action_name: str, data: dict[str, Any]) -> dict[str, Any]:
        return None  # type: ignore[return-value]


class Raising(Middleware):
    """Cannot present."""

    def present(self, action_name: str, data: dict[str, Any]) -> dict[str, Any]:
        raise KeyError(data["host"])


def test_what_is_planned_can_be_amended_from_the_outside_in() -> None:
    mine = action(Adding, AddingMore)
    instance = bind(mine, 1, None)  # type: ignore[arg-type]

    assert amended(chain(mine), instance, {"host": "web"}) == {"host": "web", "by": ["Adding", "AddingMore"]}
    with pytest.raises(PlanningError, match=r"Forgetful\.planned\(\) must return a dictionary"):
        amended(chain(action(Forgetful)), instance, {})


def test_what_is_shown_can_be_changed_and_storage_is_not() -> None:
    mine = action(Adding, AddingMore)
    stored = {"hosts": ["web"], "password": "c4nary", "pin": {"$sealed": {"plain": "c4nary"}}}

    name = registry.action_name(mine)
    shown = presented(name, stored)

    assert shown == {"hosts": ["web", "AddingMore", "Adding"], "password": MASK, "pin": MASK, "of": name}
    assert stored == {"hosts": ["web"], "password": "c4nary", "pin": {"$sealed": {"plain": "c4nary"}}}


def test_what_is_shown_of_actions_nobody_knows_any_more_is_masked() -> None:
    assert presented("gone.Action", {"password": "c4nary"}) == {"password": MASK}
    with globally("Adding"):
        assert presented("gone.Action", {"hosts": []}) == {"hosts": ["Adding"], "of": "gone.Action"}


@pytest.mark.parametrize("middleware", [Raising, Forgetful, Greedy])
def test_what_cannot_be_presented_is_not_shown(middleware: type[Middleware]) -> None:
    """It might have been hidden, and the page must not fail."""
    shown = presented(registry.action_name(action(middleware)), {"host": "c4nary"})

    assert list(shown) == ["not shown"]
    assert "c4nary" not in str(shown)
