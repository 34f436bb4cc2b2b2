"""What a step logs is kept whole up to a limit; above it, its beginning and its end, and how much is missing."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from dynflow_app.worker import step_log
from dynflow_app.worker.step_log import TAIL, StepLog


def logged(limit: int, *texts: str) -> str:
    log = StepLog(limit)
    return "".join(log.take(text) for text in texts) + log.rest()


def test_nothing_is_lost_up_to_the_limit() -> None:
    lines = [f"line {number}\n" for number in range(5_000)]
    assert logged(len("".join(lines)), *lines) == "".join(lines)


def test_a_little_more_than_the_limit_is_kept_as_well() -> None:
    assert logged(10, "a" * 8, "b" * 8) == "a" * 8 + "b" * 8
    assert logged(0, "a" * TAIL) == "a" * TAIL


def test_far_beyond_the_limit_beginning_and_end_are_kept_with_an_exact_count() -> None:
    text = logged(10, "head" * 5, "x" * TAIL, "y" * TAIL, "end")
    assert text.startswith("headheadhe\n... 65549 characters left out ...\n")
    assert text.endswith("y" * (TAIL - 3) + "end")


@given(st.integers(0, 40), st.lists(st.text(alphabet="abc", max_size=30), max_size=20))
def test_what_is_kept_and_what_is_counted_add_up(limit: int, texts: list[str]) -> None:
    whole, tail = "".join(texts), 16
    step_log.TAIL, before = tail, step_log.TAIL
    try:
        kept = logged(limit, *texts)
    finally:
        step_log.TAIL = before
    if len(whole) <= limit + tail:
        assert kept == whole
    else:
        (count,) = re.findall(r"\n\.\.\. (\d+) characters left out \.\.\.\n", kept)
        assert kept == f"{whole[:limit]}\n... {count} characters left out ...\n{whole[-tail:]}"
        assert int(count) == len(whole) - limit - tail
