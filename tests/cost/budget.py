"""The budget: what each scenario may cost, and what is said when it does not fit any more.

Batches are made alike in each run (see `steady`), so most figures are the same to the digit. How far one may lie above
its budget, and why:

- rows and key checks, 2 %: they follow from the scenario; the little is for tables that count batches.
- statements and commands to Redis, 10 %: a new Django, psycopg or redis-py may send one more for each connection or
  transaction; one more for each step, turn or plan does not fit.
- the share of step updates that touch no index, 0.03 below: it depends on how rows happen to lie on pages. For 1,000
  steps side by side it is at least 0.9, whatever the budget says: nothing that changes of every step is in an index.
- everything that runs by the clock, twice, and that share 0.2 below: on a busy machine more and smaller batches come
  about, and fewer updates find room.

A figure below half of its budget fails too: from then on the budget would hide what it is to find. One that is lower by
more than its tolerance is only mentioned.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from tests.cost.scenarios import BY_THE_CLOCK, FAN, HOT, Cost, Figures

FILE = Path(__file__).with_name("budget.json")
REWRITE = "python -m tests.cost.measure --write"
FAR_TOO_MUCH = 0.5
SHARE_TOLERANCE = 0.03
SHARE_TOLERANCE_BY_THE_CLOCK = 0.2
LEAST_SHARE = {FAN: 0.9}
CLOCK_TOLERANCE = 1.0
ROWS_TOLERANCE = 0.02
TOLERANCES = {
    "statements": 0.1,
    "statements that bound transactions": 0.1,
    "commands to Redis": 0.1,
}
MENTIONED = 8
"""Statements that a failure lists."""


class GenerousBudgetWarning(UserWarning):
    """Something costs noticeably less than its budget."""


def read() -> dict[str, Figures]:
    """Scenario to its budget."""
    budget: dict[str, Figures] = json.loads(FILE.read_text(encoding="utf-8"))
    return budget


def written(figures: Mapping[str, Figures]) -> str:
    """The text of the file."""
    return json.dumps(figures, indent=2) + "\n"


def tolerance(scenario: str, name: str) -> float:
    """Which part of its budget a figure may lie beside it."""
    return CLOCK_TOLERANCE if scenario == BY_THE_CLOCK else TOLERANCES.get(name, ROWS_TOLERANCE)


def excesses(scenario: str, budget: Mapping[str, float], figures: Mapping[str, float]) -> list[str]:
    """The figures that cost more than they may; what has no budget may cost nothing."""
    found = []
    for name, figure in figures.items():
        allowed = budget.get(name, 0.0)
        if name == HOT:
            lower = SHARE_TOLERANCE_BY_THE_CLOCK if scenario == BY_THE_CLOCK else SHARE_TOLERANCE
            is_worse = figure < max(allowed - lower, LEAST_SHARE.get(scenario, 0.0))
        else:
            is_worse = figure > allowed * (1 + tolerance(scenario, name))
        if is_worse:
            found.append(f"{name}: {figure:g} instead of {allowed:g}")
    return found


def savings(scenario: str, budget: Mapping[str, float], figures: Mapping[str, float]) -> tuple[list[str], list[str]]:
    """The figures that cost less than half of what they may, and those that cost noticeably less."""
    half, some = [], []
    for name, allowed in budget.items():
        figure = figures.get(name, 0.0)
        text = f"{name}: {figure:g} instead of {allowed:g}"
        if name == HOT:
            if figure - allowed > SHARE_TOLERANCE:
                some.append(text)
        elif figure < allowed * FAR_TOO_MUCH:
            half.append(text)
        elif figure < allowed * (1 - tolerance(scenario, name)):
            some.append(text)
    return half, some


def refusal(scenario: str, budget: Mapping[str, float], cost: Cost) -> str:
    """Why this cost does not fit the budget; empty if it does."""
    more = excesses(scenario, budget, cost.figures)
    less, _ = savings(scenario, budget, cost.figures)
    if not more and not less:
        return ""
    parts = []
    if more:
        parts += [f"{scenario} costs more than its budget:", *(f"  {line}" for line in more)]
        parts += ["Sent most often:", *_most(cost.statements)]
    if less:
        parts += [f"{scenario} costs less than half of its budget:", *(f"  {line}" for line in less)]
    parts.append(f"If that is as it should be: {REWRITE}")
    return "\n".join(parts)


def hint(scenario: str, budget: Mapping[str, float], cost: Cost) -> str:
    """What has become cheaper so that the budget should follow; empty if nothing has."""
    _, some = savings(scenario, budget, cost.figures)
    if not some:
        return ""
    return "\n".join(
        [f"{scenario} costs less than its budget:", *(f"  {line}" for line in some), f"Tighten it: {REWRITE}"]
    )


def _most(statements: Counter[str]) -> list[str]:
    return [f"  {count} x {text[:160]}" for text, count in statements.most_common(MENTIONED)]
