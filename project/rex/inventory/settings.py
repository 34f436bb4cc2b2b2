"""How a host is reached, read from its variables under the common or the short names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from project.rex.inventory.errors import InventoryError, Place
from project.rex.inventory.hosts import Connection

NAMES: dict[str, tuple[str, ...]] = {
    "connection": ("ansible_connection", "connection"),
    "address": ("ansible_host", "ansible_ssh_host", "host"),
    "port": ("ansible_port", "ansible_ssh_port", "port"),
    "user": ("ansible_user", "ansible_ssh_user", "user"),
    "key_file": ("ansible_ssh_private_key_file", "ansible_private_key_file", "key_file"),
    "known_hosts": ("ansible_known_hosts", "known_hosts"),
}
"""Which variables say what about a connection, the stronger name first."""

ALL_NAMES = frozenset(name for names in NAMES.values() for name in names)


@dataclass(frozen=True)
class Layer:
    """Variables that one group, or the host itself, contributes to a host."""

    variables: dict[str, Any]
    place: Place


def connection_settings(host: str, layers: Sequence[Layer]) -> dict[str, Any]:
    """Return the keyword arguments of ``Host`` that say how ``host`` is reached.

    ``layers`` go from the weakest (group ``all``) to the strongest (the host). Raises
    ``InventoryError`` for an unknown connection, a bad port or a value that is not text.
    """
    settings: dict[str, Any] = {}
    for setting, names in NAMES.items():
        for layer in layers:
            name = next((name for name in names if name in layer.variables), None)
            if name:
                value = layer.variables[name]
                settings[setting] = _PARSERS[setting](value, f"host {host}: {name}", layer.place)
    return settings


def _text(value: object, what: str, place: Place) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise InventoryError(f"{what} is {value!r}", "write a text that is not empty", place)
    return str(value)


def _address(value: object, what: str, place: Place) -> str:
    text = _text(value, what, place)
    if any(character.isspace() for character in text):
        raise InventoryError(f"{what} is {value!r}", "write one host name or address", place)
    return text


def _port(value: object, what: str, place: Place) -> int:
    text = str(value)
    if not (text.isascii() and text.isdigit() and len(text) < 6 and 0 < int(text) < 65536):
        remedy = "write a number from 1 to 65535"
        raise InventoryError(f"{what} is {value!r}, which is no port", remedy, place)
    return int(text)


def _connection(value: object, what: str, place: Place) -> Connection:
    try:
        return Connection(str(value))
    except ValueError:
        known = " or ".join(Connection)
        problem = f"{what} is {value!r}, which is no known connection"
        raise InventoryError(problem, f"write {known}", place) from None


def _path(value: object, what: str, place: Place) -> str:
    """Make a relative path absolute: it counts from the folder of the inventory."""
    text = _text(value, what, place)
    return text if text.startswith("~") else str(Path(place.file).absolute().parent / text)


_PARSERS = {
    "connection": _connection,
    "address": _address,
    "port": _port,
    "user": _text,
    "key_file": _path,
    "known_hosts": _path,
}
