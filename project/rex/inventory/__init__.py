"""Inventory files: which hosts there are, in which groups, and how to reach them.

``load(path)`` reads the common YAML or INI form (groups of groups, host and group variables,
ranges such as ``web[01:20]``) into an :class:`Inventory`; ``inventory.select("web,!web03")``
picks :class:`Host` objects from it. Everything that is wrong raises :class:`InventoryError`,
whose message names the file, the line where one is known, and the remedy.
"""

from __future__ import annotations

from project.rex.inventory.errors import InventoryError
from project.rex.inventory.files import load
from project.rex.inventory.hosts import Connection, Host
from project.rex.inventory.selection import Inventory

__all__ = ["Connection", "Host", "Inventory", "InventoryError", "load"]
