"""The demo judges honestly: what breaks a promise is a problem, a lost host is none."""

from __future__ import annotations

import io
from collections import Counter
from typing import Any

import pytest

from project.demo.options import parse
from project.demo.places import engine_settings
from project.demo.screen import Screen
from project.demo.verdict import Outcome, show


def outcome(runs: dict[str, int], *, workers_lost: int = 0, state: str = "stopped", **statuses: str) -> Outcome:
    """An outcome for the hosts a, b and c, which succeeded unless another status is given."""
    results: list[dict[str, Any]] = [
        {"host": f"{name}.example", "status": status, "exit_code": 0, "seconds": 0.2, "error": "why. More."}
        for name, status in {"a": "succeeded", "b": "succeeded", "c": "succeeded", **statuses}.items()
        if status
    ]
    return Outcome(
        plan_id="0198",
        report_id=1,
        state=state,
        result="success",
        seconds=2.0,
        steps=4,
        hosts=("a.example", "b.example", "c.example"),
        results=tuple(results),
        runs=Counter({f"{name}.example": number for name, number in runs.items()}),
        workers_lost=workers_lost,
        hand_overs=0,
    )


ONCE = {"a": 1, "b": 1, "c": 1}


def test_all_is_well() -> None:
    assert outcome(ONCE).problems() == []


@pytest.mark.parametrize("runs", [0, 1])
def test_a_lost_host_may_have_run_or_not(runs: int) -> None:
    assert outcome({**ONCE, "c": runs}, c="lost", workers_lost=1).problems() == []


@pytest.mark.parametrize(
    "bad",
    [
        outcome({**ONCE, "b": 2}),
        outcome({**ONCE, "b": 0}),
        outcome({**ONCE, "c": 2}, c="lost", workers_lost=1),
        outcome(ONCE, c="lost"),
        outcome(ONCE, c=""),
        outcome(ONCE, state="paused"),
    ],
)
def test_broken_promises_are_problems(bad: Outcome) -> None:
    assert len(bad.problems()) == 1


def test_what_is_shown() -> None:
    stream = io.StringIO()
    show(outcome({**ONCE, "c": 0}, b="failed", c="lost", workers_lost=1), Screen(stream, ascii_only=True))
    text = stream.getvalue()
    assert text.isascii()
    assert "3 hosts of example" in text
    assert "a + 0.20" in text
    assert "b.example: failed, why" in text
    assert "c.example: lost, its command left no line" in text
    assert "hosts: 1 succeeded, 1 failed, 1 lost" in text


def test_switches_come_from_the_command_line_or_the_environment() -> None:
    assert parse(["--kill"], {}).kill
    assert parse([], {"KILL": "1"}).kill
    assert not parse([], {"KILL": "0"}).kill
    assert not parse([], {}).serve


def test_few_hosts_leave_time_to_kill() -> None:
    assert engine_settings(9, kill=False)["WORKER_COROUTINES"] == 1
    assert engine_settings(200, kill=False)["WORKER_COROUTINES"] == 8
    assert engine_settings(200, kill=True)["WORLD_TIMEOUT"] < 10


def test_settings_for_the_impatient_are_allowed() -> None:
    from django.test import override_settings

    from dynflow_app.checks import check_settings

    with override_settings(DYNFLOW=engine_settings(200, kill=True)):
        assert [finding for finding in check_settings(None) if finding.is_serious()] == []
