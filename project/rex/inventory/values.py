"""Variables: what may be stored with a plan as JSON, and what may not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from project.rex.inventory.errors import InventoryError, Place

MAX_VALUES = 10_000
"""Most values in the variables of one host or group, nested ones included."""

SECRETS = frozenset(
    {
        "ansible_password",
        "ansible_ssh_pass",
        "ansible_ssh_password",
        "ansible_become_pass",
        "ansible_become_password",
    }
)


def check_variables(variables: Mapping[Any, Any], owner: str, place: Place) -> dict[str, Any]:
    """Return ``variables`` as a dict once all of it is JSON and none of it a password.

    Raises ``InventoryError`` naming the path of the value, such as ``host web1: disks[0].size``.
    """
    checker = _Checker(owner, place)
    for name, value in variables.items():
        checker.check_name(name, "variable")
        if name in SECRETS:
            raise InventoryError(
                f"{owner}: {name} would be stored readable with every plan",
                "remove it and let ssh log in with key_file or an agent",
                place,
            )
        checker.check(value, name)
    return dict(variables)


class _Checker:
    """Walk through one owner's values, counting them."""

    def __init__(self, owner: str, place: Place) -> None:
        self.owner, self.place, self.left = owner, place, MAX_VALUES

    def check(self, value: object, path: str) -> None:
        """Raise unless ``value``, found at ``path``, is JSON."""
        self.left -= 1
        if self.left < 0:
            raise self._error(path, f"has more than {MAX_VALUES:,} values", "keep data elsewhere")
        if isinstance(value, dict):
            self._check_dict(value, path)
        elif isinstance(value, list):
            for index, item in enumerate(value):
                self.check(item, f"{path}[{index}]")
        else:
            self._check_scalar(value, path)

    def check_name(self, name: object, path: str) -> None:
        """Raise unless ``name`` can be a key of a JSON object."""
        if not isinstance(name, str):
            raise self._error(path, f"has the key {name!r}, which is not text", "put it in quotes")

    def _check_dict(self, value: dict[object, object], path: str) -> None:
        for key, item in value.items():
            self.check_name(key, path)
            self.check(item, f"{path}.{key}")

    def _check_scalar(self, value: object, path: str) -> None:
        if not isinstance(value, str | int | float | bool | None):
            raise self._error(path, f"is a {type(value).__name__}, not JSON", "put it in quotes")
        if isinstance(value, float) and not math.isfinite(value):
            raise self._error(path, f"is {value}, which JSON has not", "put it in quotes")

    def _error(self, path: str, what: str, remedy: str) -> InventoryError:
        return InventoryError(f"{self.owner}: {path} {what}", remedy, self.place)
