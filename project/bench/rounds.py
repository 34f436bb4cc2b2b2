"""Several runs of the same thing, the engine and the limits by turns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from project.bench.columns import Column, spread
from project.bench.figures import Figures
from project.bench.limits.design import Design
from project.bench.limits.working import DESIGNS
from project.bench.stage import Stage

ENGINE = "engine"


@dataclass(frozen=True, slots=True)
class Rival:
    """What the engine is compared with."""

    measure: Callable[[Design, int], Figures]
    compared: str
    """A figure of the engine and of the limit: a rate, or a time if its name begins with ``ms``."""
    cpu: str = ""
    """Their CPU time, if both do the same work with it."""

    def shares(self, engine: Figures, limit: Figures, name: str) -> Figures:
        """How much of the limit's speed the engine has reached in this run, and how much more CPU time it took."""
        mine, its = engine[self.compared], limit[self.compared]
        is_time = self.compared.startswith("ms")
        figures = {f"share_of_{name}": its / mine if is_time else mine / its}
        if limit.get(self.cpu):
            figures[f"cpu_times_{name}"] = engine[self.cpu] / limit[self.cpu]
        return figures


def by_count(
    measure: Callable[[Stage, int], Figures], rival: Rival | None = None
) -> Callable[[Stage, Sequence[int], int], list[Column]]:
    """Measures each count so many times; returns a column for each."""

    def measured(stage: Stage, counts: Sequence[int], runs: int) -> list[Column]:
        columns = [_column(stage, measure, rival, count, runs) for count in counts]
        return _compared(columns)

    return measured


def order(round_number: int, names: Sequence[str]) -> list[str]:
    """Who is measured first: they go in turns, so that what is warm or worn helps or hurts nobody alone."""
    return list(names) if round_number % 2 == 0 else list(reversed(names))


def _column(
    stage: Stage, measure: Callable[[Stage, int], Figures], rival: Rival | None, count: int, runs: int
) -> Column:
    designs = {design.name: design for design in DESIGNS} if rival else {}
    found: dict[str, list[Figures]] = {ENGINE: [], **{name: [] for name in designs}}
    dearest = []
    for number in range(runs):
        stage.say(f"{count:,}, run {number + 1} of {runs}")
        once: dict[str, Figures] = {}
        for name in order(number, [ENGINE, *designs]):
            if name == ENGINE:
                once[ENGINE] = dict(measure(stage, count))
                dearest = stage.dearest()
            elif rival is not None:
                once[name] = rival.measure(designs[name], count)
        for name in designs:
            assert rival is not None  # noqa: S101 - there are designs
            once[ENGINE] |= rival.shares(once[ENGINE], once[name], name)
        for name, figures in once.items():
            found[name].append(figures)
    limits = {f"{name} limit": spread(found[name]) for name in designs}
    return Column(count, f"{count:,}", spread(found[ENGINE]), limits, runs, dearest)


def _compared(columns: list[Column]) -> list[Column]:
    """Say of each what a step costs compared with the first."""
    first = columns[0].figures.get("ms_per_step")
    if first is not None and len(columns) > 1:
        for column in columns:
            share = column.figures["ms_per_step"]["median"] / first["median"]
            column.figures["relative_cost_per_step"] = spread([{"share": share}])["share"]
    return columns
