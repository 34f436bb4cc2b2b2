"""Rate: how many steps may start per time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True)
class Rate:
    """``Rate(10, per=timedelta(seconds=1))``: ten starts a second, spread evenly. Raises ValueError out of range."""

    starts: int
    per: timedelta = timedelta(seconds=1)

    def __post_init__(self) -> None:
        if self.starts < 1 or not timedelta(milliseconds=1) <= self.per <= timedelta(days=31):
            raise ValueError(f"{self!r}: give at least one start, per a millisecond to 31 days.")
