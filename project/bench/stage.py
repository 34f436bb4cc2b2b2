"""Where a kind is measured: the running system, with what counts statements and reads clocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from project.bench.cpu import Meter, per_unit
from project.bench.figures import Figures
from project.bench.statements import Counter
from project.bench.system import System

Say = Callable[[str], object]


@dataclass(slots=True)
class Observed:
    """What one stretch of time has cost."""

    figures: Figures = field(default_factory=dict)
    own: int = 0
    """Statements of this process that only waited; to be set within the stretch."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Handed to every kind."""

    system: System
    redis_url: str
    counter: Counter | None
    """None if the server cannot count statements."""
    say: Say

    @contextmanager
    def observed(self, unit: str, count: int) -> Iterator[Observed]:
        """Counts statements and CPU time until the end of the block, per unit."""
        meter = Meter(self.system.roots(), self.redis_url)
        if self.counter:
            self.counter.reset()
        observed, before = Observed(), meter.read()
        yield observed
        observed.figures |= per_unit(meter.read().since(before), unit, count)
        if self.counter:
            observed.figures |= self._statements(unit, count, observed.own)

    def dearest(self) -> list[dict[str, Any]]:
        """Statements that took the server the most time since the last stretch began."""
        return self.counter.dearest() if self.counter else []

    def _statements(self, unit: str, count: int, own: int) -> Figures:
        assert self.counter is not None  # noqa: S101 - asked before
        counted = self.counter.total()
        return {
            f"statements_per_1000_{unit}s": (counted.sent - own) * 1000 / count,
            f"transaction_statements_per_1000_{unit}s": counted.bounds * 1000 / count,
            f"key_checks_per_1000_{unit}s": counted.checks * 1000 / count,
        }
