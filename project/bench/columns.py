"""The columns of a table of results: what several runs of the same thing have found out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from project.bench.figures import Figures, median

RATIO = "ratio"
"""Title of a column that compares others."""

Spread = dict[str, float]
"""``median``, ``min`` and ``max`` of a figure."""


@dataclass(frozen=True, slots=True)
class Column:
    """One count, or one state of affairs."""

    count: int
    title: str
    figures: dict[str, Spread]
    beside: dict[str, dict[str, Spread]] = field(default_factory=dict)
    """Figures of what this is compared with, by title: hand-written SQL in the same runs, or what others published."""
    runs: int = 1
    dearest_statements: list[dict[str, Any]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """For the document."""
        return {
            "count": self.count, "title": self.title, "runs": self.runs, "figures": self.figures,
            "beside": self.beside, "dearest_statements": self.dearest_statements,
        }  # fmt: skip


def spread(runs: Sequence[Figures]) -> dict[str, Spread]:
    """Median, least and most of each figure; one that is missing in some runs counts in the others."""
    names = dict.fromkeys(name for run in runs for name in run)
    values = {name: [run[name] for run in runs if name in run] for name in names}
    return {name: {"median": median(some), "min": min(some), "max": max(some)} for name, some in values.items()}


def medians(figures: Mapping[str, Spread]) -> Figures:
    """The middle of each."""
    return {name: value["median"] for name, value in figures.items()}


def ratios(before: Column, after: Column, names: Iterable[str] | None = None) -> Column:
    """A column that says how much of the first each figure of the second is."""
    earlier, later = medians(before.figures), medians(after.figures)
    wanted = [name for name in names or later if earlier.get(name)]
    shares = {name: later[name] / earlier[name] for name in wanted if name in later}
    return Column(after.count, RATIO, spread([shares]), runs=after.runs)
