"""Middleware: wraps the phases of all actions (setting ``MIDDLEWARE``), or of one class and its subclasses.

class Quota(Middleware):
    @contextmanager
    def run(self, action):
        with quota.reserved(action.input["host"]):
            yield

class ProvisionHost(BaseAction):
    middleware = (Audit, Use(Quota, before=Audit))
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from django.utils.module_loading import import_string

from dynflow_app.actions import registry
from dynflow_app.conf import settings
from dynflow_app.exceptions import PlanningError
from dynflow_app.payloads.masking import masked

if TYPE_CHECKING:
    from dynflow_app.actions.base import BaseAction

_Kind: TypeAlias = "type[Middleware]"
Hook = Literal["plan", "run", "finalize", "revert", "cancel"]


class Middleware:
    """Override what you need; every hook does nothing by default.

    A process makes one instance of each class, without arguments, and uses it in many threads: keep nothing about an
    action on ``self``. The phase happens inside the context manager that a hook returns, so exceptions of the phase
    reach it; one that it swallows counts as success. Catch ``Exception`` only: suspending and cancelling are
    exceptions, too. Around ``async def run`` the context manager is open while other coroutines of the thread run.
    """

    def plan(self, action: BaseAction) -> AbstractContextManager[Any]:
        """Around ``plan()``, in the caller's transaction."""
        return nullcontext()

    def run(self, action: BaseAction) -> AbstractContextManager[Any]:
        """Around each invocation of ``run()``, in a worker."""
        return nullcontext()

    def finalize(self, action: BaseAction) -> AbstractContextManager[Any]:
        """Around ``finalize()``, in a worker, in the transaction of the finalize phase."""
        return nullcontext()

    def revert(self, action: BaseAction) -> AbstractContextManager[Any]:
        """Around ``revert()``, in a worker."""
        return nullcontext()

    def cancel(self, action: BaseAction) -> AbstractContextManager[Any]:
        """Around ``cancel()``, in a worker."""
        return nullcontext()

    def planned(self, action: BaseAction, given: dict[str, Any]) -> dict[str, Any]:
        """The input to be stored instead of `given`, which is what ``plan_self()`` got."""
        return given

    def present(self, action_name: str, data: dict[str, Any]) -> dict[str, Any]:
        """What the admin and the API show instead of `data`, an input or output whose secrets are masked. Storage does
        not change."""
        return data


@dataclass(frozen=True)
class Use:
    """Adds `middleware`: outside of `before`, inside of `after`, or in the place of `replace`.

    These may be any middleware of the class, of its base classes, or of the setting ``MIDDLEWARE``. Without them it
    comes inside of what was added earlier.
    """

    middleware: type[Middleware]
    before: type[Middleware] | None = field(default=None, kw_only=True)
    after: type[Middleware] | None = field(default=None, kw_only=True)
    replace: type[Middleware] | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class Remove:
    """Takes away `middleware`, which a base class or the setting ``MIDDLEWARE`` added."""

    middleware: type[Middleware]


def chain(action_class: type[BaseAction] | None) -> tuple[Middleware, ...]:
    """The middleware of `action_class`, the outermost first; of None: that of the setting. Cached.

    Raises `PlanningError` for a middleware that does not exist, and for an order that contradicts itself.
    """
    key: type | None = action_class
    paths = settings.MIDDLEWARE
    return _chain(key, paths if type(paths) is tuple else tuple(paths))


def entered(chain: Iterable[Middleware], hook: Hook, action: BaseAction) -> ExitStack:
    """``with entered(chain(type(action)), "run", action):`` enters every middleware, the outermost first.

    They are entered when this returns, so call it in a ``with`` statement only.
    """
    with ExitStack() as stack:
        for middleware in chain:
            stack.enter_context(getattr(middleware, hook)(action))
        return stack.pop_all()


def amended(chain: Iterable[Middleware], action: BaseAction, given: dict[str, Any]) -> dict[str, Any]:
    """What ``plan_self()`` shall store instead of `given`; the outermost has the first word. Raises `PlanningError`."""
    for middleware in chain:
        given = middleware.planned(action, given)
        if not isinstance(given, dict):
            raise PlanningError(f"{type(middleware).__name__}.planned() must return a dictionary, not {given!r}.")
    return given


def presented(action_name: str, data: dict[str, Any]) -> dict[str, Any]:
    """What to show of a stored input or output: masked, then as middleware presents it, the outermost last.

    Does not raise when middleware fails: what it might have hidden is not shown then.
    """
    shown: Any = masked(data)
    try:
        for middleware in reversed(chain(registry.known(action_name))):
            shown = middleware.present(action_name, shown)
    except Exception as error:
        return {"not shown": f"present() of a middleware failed: {type(error).__name__}."}
    return shown if isinstance(shown, dict) else {"not shown": "present() of a middleware returned no dictionary."}


@cache
def _chain(action_class: type | None, paths: tuple[str, ...]) -> tuple[Middleware, ...]:
    order = _Order(action_class.__name__ if action_class else "every action")
    for path in paths:
        order.use(Use(_imported(path)))
    for each in reversed(action_class.__mro__ if action_class else ()):
        for rule in _rules(each):
            order.remove(rule.middleware) if isinstance(rule, Remove) else order.use(rule)
    return tuple(_instance(middleware) for middleware in order.outermost_first())


class _Order:
    """The middleware of one action, as its rules are read."""

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._listed: list[_Kind] = []
        self._gone: dict[_Kind, _Kind | None] = {}
        """What was taken away, and what is in its place."""
        self._pairs: list[tuple[_Kind, _Kind, Use]] = []
        """Outer, inner, and the rule that says so."""

    def remove(self, middleware: _Kind) -> None:
        self._listed.pop(self._position(middleware, f"Remove({middleware.__name__})"))
        self._gone[middleware] = None

    def use(self, rule: Use) -> None:
        added, replaced = rule.middleware, rule.replace
        if replaced is not None and replaced is not added:
            self._listed[self._position(replaced, f"The replace= of {added.__name__}")] = added
            self._gone[replaced] = added
        else:
            self._listed.append(added)
        self._listed = list(dict.fromkeys(self._listed))  # who is listed twice stays where it was
        self._gone.pop(added, None)
        if rule.before is not None:
            self._pairs.append((added, rule.before, rule))
        if rule.after is not None:
            self._pairs.append((rule.after, added, rule))

    def outermost_first(self) -> Iterable[type]:
        """In the order of the rules, but whoever has to come before another is drawn forward to it."""
        outer: dict[_Kind, list[_Kind]] = {each: [] for each in self._listed}
        for pair in self._pairs:
            first, second = (self._in_place_of(each, pair[2]) for each in pair[:2])
            replaced_each_other = first is second and pair[0] is not pair[1]
            if first is not None and second is not None and not replaced_each_other:
                outer[second].append(first)
        found: list[_Kind] = []
        for each in self._listed:
            self._visit(each, outer, found, ())
        return found

    def _visit(
        self, each: _Kind, outer: dict[_Kind, list[_Kind]], found: list[_Kind], inner: tuple[_Kind, ...]
    ) -> None:
        if each in inner:
            raise PlanningError(
                f"The middleware of {self._owner} has no order: {each.__name__} and {inner[-1].__name__} each have to "
                "come before the other. Drop a before= or after=."
            )
        if each not in found:
            for other in outer[each]:
                self._visit(other, outer, found, (*inner, each))
            found.append(each)

    def _in_place_of(self, named: _Kind, rule: Use) -> _Kind | None:
        """What replaced `named`, or itself; None if it was removed."""
        place: _Kind | None = named
        while place in self._gone:
            place = self._gone[place]
        if place is not None:
            self._position(place, f"The before= or after= of {rule.middleware.__name__}")
        return place

    def _position(self, wanted: _Kind, who: str) -> int:
        if wanted not in self._listed:
            raise PlanningError(
                f"{who} names {wanted.__name__}, but {self._owner} has no such middleware: neither its own, nor from "
                "base classes or the setting MIDDLEWARE."
            )
        return self._listed.index(wanted)


def _rules(action_class: type) -> Iterator[Use | Remove]:
    listed = action_class.__dict__.get("middleware", ())
    if not isinstance(listed, (tuple, list)):
        raise PlanningError(f"{action_class.__name__}.middleware must be a tuple, not {listed!r}.")
    for entry in listed:
        rule = Use(entry) if isinstance(entry, type) else entry
        if not isinstance(rule, (Use, Remove)) or not _is_middleware(rule.middleware):
            raise PlanningError(
                f"{action_class.__name__}.middleware has {entry!r}: list Middleware classes, Use(...) or Remove(...)."
            )
        yield rule


def _imported(path: str) -> type[Middleware]:
    try:
        found = import_string(path)
    except ImportError as error:
        raise PlanningError(f"The setting MIDDLEWARE names {path!r}, which cannot be imported: {error}") from error
    if not _is_middleware(found):
        raise PlanningError(f"The setting MIDDLEWARE names {path!r}, which is no subclass of Middleware.")
    return found  # type: ignore[no-any-return] # checked above


def _is_middleware(candidate: object) -> bool:
    return isinstance(candidate, type) and issubclass(candidate, Middleware)


@cache
def _instance(middleware: type) -> Middleware:
    try:
        made: Middleware = middleware()
    except TypeError as error:
        raise PlanningError(f"{middleware.__name__}, a middleware, must need no arguments: {error}") from error
    return made
