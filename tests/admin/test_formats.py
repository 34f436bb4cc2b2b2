"""Durations and times as people read them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from dynflow_app import clock
from dynflow_app.admin import formats


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0 ms"),
        (0.25, "250 ms"),
        (3.46, "3.5 s"),
        (59.9, "1 min"),
        (125, "2 min 5 s"),
        (72_005, "20 h"),
        (7_500, "2 h 5 min"),
        (90_000, "1 d 1 h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert formats.duration(seconds) == text


def test_moments() -> None:
    assert ">2 min ago</time>" in formats.moment(clock.now() - timedelta(minutes=2))
    assert ">in 1 h</time>" in formats.moment(clock.now() + timedelta(hours=1))
    assert formats.moment(None) == formats.EMPTY


def test_nothing_started_took_no_time() -> None:
    assert formats.between(None, None) == formats.EMPTY
