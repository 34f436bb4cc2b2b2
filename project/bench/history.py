"""The kind about years of use: the same figures in empty tables and in tables that are full of finished plans."""

from __future__ import annotations

from collections.abc import Sequence

from project.bench.columns import Column, ratios, spread
from project.bench.figures import Figures
from project.bench.limits.place import commit
from project.bench.past import fill
from project.bench.running import chain, plans, steps
from project.bench.stage import Stage

STEPS = 10_000
HOPS = 200
PLANS = 200


def history(stage: Stage, counts: Sequence[int], runs: int) -> list[Column]:
    """Figures in empty tables, with each of ``counts`` finished plans in them, and the ratio of the last to the first.

    Before fewer past plans, smaller plans are measured: the larger ones would be a past of their own.
    """
    size = min(counts)
    columns = [_column(stage, 0, "empty", size, runs)]
    filled = 0
    for count in sorted(counts):
        stage.say(f"filling up to {count:,} finished plans")
        fill(count, first=filled)
        filled = count
        columns.append(_column(stage, count, f"{count:,} past", size, runs))
    return [*columns, ratios(columns[0], columns[-1])]


def _column(stage: Stage, count: int, title: str, size: int, runs: int) -> Column:
    stage.say(f"history, {title}")
    return Column(count, title, spread([_all(stage, size) for _ in range(runs)]), runs=runs)


def _all(stage: Stage, size: int) -> Figures:
    return {
        "commit_ms": commit(),
        **steps(stage, min(size, STEPS)),
        **chain(stage, max(2, min(size, HOPS))),
        **plans(stage, min(size, PLANS)),
    }
