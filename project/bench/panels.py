"""What is drawn of a document: a panel per figure, and one for the CPU time of all processes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from project.bench.columns import RATIO
from project.bench.labels import label

PARTS = re.compile(r"(cpu_ms_per_(?:sub_plan|planned_step|(?!sub_|planned_)[a-z]+))_(?!total)(.+)")
FAMILIES = re.compile(r"resident_[a-z]+|latency_ms|trigger_ms|ms_per_hop|steps_per_second|seconds_|cpu_seconds")
"""Figures whose names begin alike have the same scale."""

VISIBLE = 0.01
"""Share of a bar below which a part cannot be seen."""

OTHERS = "others"


@dataclass(frozen=True, slots=True)
class Bar:
    """One figure, or several parts of one, of one column."""

    title: str
    parts: tuple[tuple[str, float], ...]
    """Name and length of each, from left to right; one without a name if there are no parts."""
    least: float
    most: float
    lines: tuple[tuple[str, float], ...]
    """Title and value of what it is compared with."""

    @property
    def length(self) -> float:
        """Of all parts."""
        return sum(value for _, value in self.parts)

    @property
    def end(self) -> float:
        """The most that it shows."""
        return max(self.length, self.most, *(value for _, value in self.lines), 0.0)


@dataclass(frozen=True, slots=True)
class Panel:
    """The bars of all columns."""

    title: str
    bars: tuple[Bar, ...]
    scale: float
    """What the whole width stands for."""

    @property
    def names(self) -> list[str]:
        """Of the parts of all bars."""
        return list(dict.fromkeys(name for bar in self.bars for name, _ in bar.parts if name))


def panels_of(document: dict[str, Any], plotted: Sequence[str]) -> list[Panel]:
    """Panels of the figures whose names begin with one of ``plotted``; of all, if none does."""
    columns = [column for column in document["columns"] if column["title"] != RATIO]
    names = list(dict.fromkeys(name for column in columns for name in column["figures"]))
    chosen = [name for name in names if name.startswith(tuple(plotted))] or names
    stacks = dict.fromkeys(found[1] for name in chosen if (found := PARTS.fullmatch(name)))
    singles = [name for name in chosen if not name.startswith(tuple(stacks))] if stacks else chosen
    bars = {name: tuple(_bars(columns, name)) for name in singles}
    bars |= {stack: tuple(_stacks(columns, stack)) for stack in stacks}
    ends: dict[str, float] = {}
    for name, some in bars.items():
        ends[_family(name)] = max(ends.get(_family(name), 0.0), *(bar.end for bar in some))
    return [Panel(_title(name), some, ends[_family(name)] or 1.0) for name, some in bars.items()]


def _title(name: str) -> str:
    if name.startswith("cpu_ms_per_"):
        return name.replace("cpu_ms", "CPU ms").replace("_", " ") + ", by process"
    return label(name).strip()


def _family(name: str) -> str:
    found = FAMILIES.match(name)
    return found[0] if found else name


def _bars(columns: Sequence[dict[str, Any]], name: str) -> Iterator[Bar]:
    for column in columns:
        if name in column["figures"]:
            found = column["figures"][name]
            yield Bar(column["title"], (("", found["median"]),), found["min"], found["max"], _lines(column, name))


def _stacks(columns: Sequence[dict[str, Any]], stack: str) -> Iterator[Bar]:
    """Processes that used next to nothing in all columns are one part."""
    found = [(column, _parts(column, stack)) for column in columns]
    seen = {name for _, parts in found for name, value in parts.items() if value >= VISIBLE * sum(parts.values())}
    for column, parts in found:
        shown = {name: value for name, value in parts.items() if name in seen}
        if len(shown) < len(parts):
            shown[OTHERS] = sum(value for name, value in parts.items() if name not in seen)
        if shown:
            yield Bar(column["title"], tuple(shown.items()), 0.0, 0.0, _lines(column, f"{stack}_total"))


def _parts(column: dict[str, Any], stack: str) -> dict[str, float]:
    """CPU time by the name of the process."""
    matches = [(PARTS.fullmatch(name), figure["median"]) for name, figure in column["figures"].items()]
    return {_process(found[2]): value for found, value in matches if found and found[1] == stack}


def _process(name: str) -> str:
    return name.replace("_", " ").replace("postgresql", "PostgreSQL").replace("redis", "Redis")


def _lines(column: dict[str, Any], name: str) -> tuple[tuple[str, float], ...]:
    return tuple((title, figures[name]["median"]) for title, figures in column["beside"].items() if name in figures)
