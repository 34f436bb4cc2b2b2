"""Figures, and statistics of them."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any

Figures = dict[str, float]
"""What one run of one kind found out, by name."""


def median(values: Sequence[float]) -> float:
    """The middle value."""
    return float(statistics.median(values))


def percentile(values: Sequence[float], percent: int) -> float:
    """The value that ``percent`` of 100 do not exceed."""
    ordered = sorted(values)
    return float(ordered[min(len(ordered) - 1, round(len(ordered) * percent / 100))])


def most_at_once(times: Iterable[tuple[Any, Any]]) -> int:
    """How many of these spans of time, each from a start to an end, overlap at the most; one that begins when another
    ends does not."""
    changes = sorted(change for start, end in times for change in ((start, 1), (end, -1)))
    return max(accumulate(change for _, change in changes))
