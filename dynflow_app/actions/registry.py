"""Name to class, filled as classes are defined. The ledger stores names; nothing is imported because a row says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dynflow_app.exceptions import UnknownActionError

if TYPE_CHECKING:
    from dynflow_app.actions.base import BaseAction

_classes: dict[str, type[BaseAction]] = {}
_subscribers: dict[str, dict[str, type[BaseAction]]] = {}


def register(action_class: type[BaseAction]) -> None:
    """Make `action_class` known by its name; a later definition of the same name wins (code reloading)."""
    name = action_name(action_class)
    _classes[name] = action_class
    target = action_class.__dict__.get("subscribe_to")  # not inherited: a subclass would attach a second time
    if target is not None:
        _subscribers.setdefault(action_name(target), {})[name] = action_class


def subscribers(action_class: type[BaseAction]) -> list[type[BaseAction]]:
    """The classes that attach to exactly `action_class`, in the order of their definition."""
    return list(_subscribers.get(action_name(action_class), {}).values()) if _subscribers else []


def is_action_class(candidate: object) -> bool:
    """Whether `candidate` is a class that was registered."""
    return isinstance(candidate, type) and action_name(candidate) in _classes


def action_name(action_class: type[BaseAction]) -> str:
    """The name stored in the ledger: module and qualified class name."""
    return f"{action_class.__module__}.{action_class.__qualname__}"


def find(name: str) -> type[BaseAction]:
    """The class called `name`. Raises `UnknownActionError`."""
    try:
        return _classes[name]
    except KeyError:
        raise UnknownActionError(
            f"This process knows no action {name!r}. Define it in the 'actions' module of an installed app, "
            "and restart workers after deploying it.",
            name=name,
        ) from None


def known(name: str) -> type[BaseAction] | None:
    """The class called `name`, or None."""
    return _classes.get(name)


def all_classes() -> list[type[BaseAction]]:
    """Every known action class, by name."""
    return [_classes[name] for name in sorted(_classes)]
