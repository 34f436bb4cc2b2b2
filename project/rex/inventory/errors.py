"""The one error of inventories, and the place in a file that it points at."""

from __future__ import annotations

from typing import NamedTuple


class Place(NamedTuple):
    """Where something was written: a file and, if known, its line counted from 1."""

    file: str
    line: int | None = None

    def __str__(self) -> str:
        """Write ``file:line``, as compilers do, so that editors can jump there."""
        return self.file if self.line is None else f"{self.file}:{self.line}"


class InventoryError(ValueError):
    """An inventory, or a pattern that selects from it, cannot be used.

    ``problem`` says what is wrong, ``remedy`` what to do about it, ``place`` where it is.
    """

    def __init__(self, problem: str, remedy: str, place: Place | None = None) -> None:
        """Build the message *place: problem; remedy*."""
        self.problem, self.remedy, self.place = problem, remedy, place
        where = f"{place}: " if place else ""
        end = "" if remedy.endswith("?") else "."
        super().__init__(f"{where}{problem}; {remedy}{end}")
