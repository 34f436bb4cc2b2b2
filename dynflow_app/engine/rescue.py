"""Rescue: what the failed actions of a plan suggest, made one strategy. A pure function."""

from __future__ import annotations

from collections.abc import Iterable

from dynflow_app.states import Rescue


def combine(suggestions: Iterable[Rescue]) -> Rescue:
    """The strategy for the whole plan: what all suggest, or *pause* if they differ or nothing is suggested."""
    distinct = set(suggestions)
    return distinct.pop() if len(distinct) == 1 else Rescue.PAUSE
