"""Keys made from input: of the limit that a step shares with others, and of the turns that a plan shares."""

from __future__ import annotations

import re
import string
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from dynflow_app.actions.base import BaseAction
from dynflow_app.actions.sub_plans import SubPlansAction
from dynflow_app.exceptions import PlanningError
from dynflow_app.payloads.json import REFERENCE_KEY, holds

LONGEST_KEY = 255
MOST_AT_ONCE = 2**31 - 1


def limit_key_of(action_class: type[BaseAction], name: str, given: Mapping[str, Any]) -> str | None:
    """The key by which steps of this action, planned with the input `given` (as stored), are limited; None if they are
    not. Without ``concurrency_key`` all steps of the action share its `name`. Raises `PlanningError`."""
    if issubclass(action_class, SubPlansAction):
        return None  # its limit is one on its sub-plans
    most = action_class.concurrency_limit
    if most is not None and (type(most) is not int or not 1 <= most <= MOST_AT_ONCE):
        raise PlanningError(f"{name}.concurrency_limit is {most!r}; give a whole number from 1, or None for no limit.")
    if action_class.concurrency_key is None:
        return None if most is None and action_class.rate_limit is None else name
    return _KeyFormatter("concurrency_key", name, action_class.sensitive).made(action_class.concurrency_key, given)


def fairness_key_of(action_class: type[BaseAction], name: str, given: Mapping[str, Any]) -> str | None:
    """The key with which a plan of this entry action, planned with the input `given` (as stored), shares its turns;
    None for its own. Raises `PlanningError`."""
    if action_class.fairness_key is None:
        return None
    return _KeyFormatter("fairness_key", name, action_class.sensitive).made(action_class.fairness_key, given)


class _KeyFormatter(string.Formatter):
    """Fills an input's values into a key; refuses values that are secret, or not known yet."""

    def __init__(self, what: str, name: str, sensitive: Collection[str]) -> None:
        self._what = what
        self._name = name
        self._sensitive = frozenset(sensitive)

    def made(self, pattern: str, given: Mapping[str, Any]) -> str:
        try:
            key = self.vformat(pattern, (), given)
        except (LookupError, AttributeError, TypeError, ValueError) as error:
            raise PlanningError(
                f"The {self._what} {pattern!r} of {self._name} cannot be made from its input "
                f"({type(error).__name__}: {error}). It may name keys that every input has: "
                f"this one has {', '.join(sorted(given)) or 'none'}."
            ) from error
        if len(key) > LONGEST_KEY:
            raise PlanningError(
                f"The {self._what} of {self._name} has {len(key)} characters ({key[:40]!r}...), more than "
                f"{LONGEST_KEY}. Use a shorter part of the input, such as an id."
            )
        return key

    def get_field(self, field_name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        if not self._sensitive.isdisjoint(re.split(r"[\[\].]", field_name)):
            raise PlanningError(
                f"The {self._what} of {self._name} uses {field_name!r}, which is sensitive, but keys are stored and "
                "shown as they are. Use another part of the input."
            )
        return super().get_field(field_name, args, kwargs)

    def get_value(self, key: int | str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        value = super().get_value(key, args, kwargs)
        if holds(value, REFERENCE_KEY):
            raise PlanningError(
                f"The {self._what} of {self._name} uses {key!r}, which is the output of another step. "
                "A key can only use values that are known when the action is planned."
            )
        return value
