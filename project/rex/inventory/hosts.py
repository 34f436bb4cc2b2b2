"""One host: its name, its groups, and how it is reached."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from project.rex.inventory.errors import InventoryError


class Connection(StrEnum):
    """How commands get to a host."""

    LOCAL = "local"
    """As a subprocess of the worker itself."""

    SSH = "ssh"
    """Through SSH, with the host's key checked against ``known_hosts``."""


@dataclass(frozen=True, slots=True)
class Host:
    """A host of an inventory; ``None`` leaves the choice to the connection's own default."""

    name: str
    groups: tuple[str, ...] = ()
    variables: Mapping[str, Any] = field(default_factory=dict, hash=False)
    connection: Connection = Connection.SSH
    address: str = ""
    port: int = 22
    user: str | None = None
    key_file: str | None = None
    known_hosts: str | None = None

    def __post_init__(self) -> None:
        """Reach the host under its name where it has no address of its own."""
        if not self.address:
            object.__setattr__(self, "address", self.name)

    @property
    def texts(self) -> dict[str, str]:
        """Its variables as text: those with a simple value, and a name that is an identifier."""
        return {
            name: _as_text(value)
            for name, value in self.variables.items()
            if isinstance(value, str | int | float) and f"{name}".isidentifier() and name.isascii()
        }

    def as_input(self) -> dict[str, Any]:
        """Return the host as JSON values, to be the input of an action."""
        values = asdict(self)
        values["groups"], values["connection"] = list(self.groups), self.connection.value
        return values

    @classmethod
    def from_input(cls, values: Mapping[str, Any]) -> Host:
        """Make the host again from what ``as_input`` returned.

        Raises ``InventoryError`` if a value is missing, unknown or no known connection.
        """
        try:
            connection = Connection(values["connection"])
            rest = {**values, "groups": tuple(values["groups"]), "connection": connection}
            return cls(**rest)
        except (KeyError, TypeError, ValueError) as error:
            problem = f"this is not a host as Host.as_input() writes it ({error})"
            raise InventoryError(problem, "plan the action again from an inventory") from error


def _as_text(value: str | float) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
