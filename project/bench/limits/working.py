"""Works a plan off with the statements of a design and nothing else: one connection, no code of steps, nobody to wake.

What the engine does beyond that is its own cost.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from project.bench.cpu import per_unit
from project.bench.figures import Figures, median, percentile
from project.bench.limits import filling, place
from project.bench.limits.design import Design
from project.bench.limits.lean import LEAN
from project.bench.limits.straight import STRAIGHT
from project.bench.usage import own_seconds

DESIGNS = (STRAIGHT, LEAN)
QUEUE = "default"
BATCH = 100
SMALL_BATCH = 20
LEAST_STEPS = 10_000
"""Fewer steps side by side would flatter neither: a loop needs some turns until its statements are prepared."""


class LimitError(RuntimeError):
    """A loop did not do what it measures; the text says what is missing."""


def steps(design: Design, count: int) -> Figures:
    """At least ``LEAST_STEPS`` steps side by side, in large and in small batches."""
    count = max(count, LEAST_STEPS)
    small = _steps(design, count, SMALL_BATCH)
    return {
        **_steps(design, count, BATCH),
        "steps_per_second_by_20": small["steps_per_second"],
        "cpu_ms_per_step_total_by_20": small["cpu_ms_per_step_total"],
    }


def chain(design: Design, count: int) -> Figures:
    """``count`` steps one after the other: a transaction records one, releases the next and claims that."""
    with place.fresh(design) as direct:
        loop = _Loop(direct, design, filling.chain(direct, design, count), batch=1)
        with _cpu(direct) as cpu:
            times = loop.hop_by_hop()
        loop.check(count)
    hops = [seconds * 1000 for seconds in times[1:-1]]  # the first only claims, the last only records
    return {"ms_per_hop_median": median(hops), "ms_per_hop_p95": percentile(hops, 95), **per_unit(cpu, "hop", count)}


def plans(design: Design, count: int) -> Figures:
    """``count`` times the rows of a plan of one step, in a transaction each."""
    with place.fresh(design) as direct:
        with _cpu(direct) as cpu:
            began = time.perf_counter()
            for _ in range(count):
                _trigger(direct, design)
            seconds = time.perf_counter() - began
        _expect(direct, "SELECT count(*) FROM step JOIN envelope USING (plan_id)", count)
    return {"triggered_per_second": count / seconds, **per_unit(cpu, "plan", count)}


class _Loop:
    """Works off one plan."""

    def __init__(self, direct: psycopg.Connection[Any], design: Design, plan: Any, *, batch: int) -> None:
        self._direct, self._design = direct, design
        self._given: dict[str, Any] = {
            "plan": plan, "queue": QUEUE, "batch": batch, "world": filling.world(direct),
            "ids": [], "attempts": [], "last": 0,
        }  # fmt: skip

    def in_batches(self) -> float:
        """One statement a turn; returns the seconds."""
        began = time.perf_counter()
        while self._take(self._execute(self._design.turn)):
            pass
        return time.perf_counter() - began

    def hop_by_hop(self) -> list[float]:
        """A transaction a turn; returns the seconds of each."""
        times, is_busy = [], True
        while is_busy:
            began = time.perf_counter()
            with self._direct.transaction():
                if self._given["ids"]:
                    self._execute(self._design.release)
                is_busy = self._take(self._execute(self._design.claim))
            times.append(time.perf_counter() - began)
        return times

    def check(self, count: int) -> None:
        """All the steps were done once."""
        _expect(self._direct, "SELECT count(*) FROM step WHERE state = 'success' AND attempt = 1", count)
        _expect(self._direct, "SELECT active_steps FROM plan", 0)

    def _execute(self, statement: str) -> list[Any]:
        return self._direct.execute(statement, self._given).fetchall()

    def _take(self, rows: list[Any]) -> bool:
        self._given["ids"], self._given["attempts"] = [row[0] for row in rows], [row[1] for row in rows]
        self._given["last"] = max(self._given["ids"], default=0)
        return bool(rows)


def _steps(design: Design, count: int, batch: int) -> Figures:
    with place.fresh(design) as direct:
        loop = _Loop(direct, design, filling.fan(direct, design, count), batch=batch)
        with _cpu(direct) as cpu:
            seconds = loop.in_batches()
        loop.check(count)
    return {"steps_per_second": count / seconds, "ms_per_step": seconds * 1000 / count, **per_unit(cpu, "step", count)}


def _trigger(direct: psycopg.Connection[Any], design: Design) -> None:
    given: dict[str, Any] = {"plan": filling.new_id(), "queue": QUEUE}
    with direct.transaction():
        for statement in design.trigger:
            cursor = direct.execute(statement, given)
            if cursor.description:
                (given[cursor.description[0].name],) = cursor.fetchone() or ()


@contextmanager
def _cpu(direct: psycopg.Connection[Any]) -> Iterator[dict[str, float]]:
    """CPU seconds of this process and of its backend, filled in at the end of the block."""
    spent: dict[str, float] = {}
    client, backend = time.process_time(), own_seconds(direct.info.backend_pid)
    yield spent
    spent["client"] = time.process_time() - client
    after = own_seconds(direct.info.backend_pid)
    if backend is not None and after is not None:
        spent["postgresql"] = after - backend


def _expect(direct: psycopg.Connection[Any], query: str, count: int) -> None:
    found = direct.execute(query).fetchall()[0][0]
    if found != count:
        raise LimitError(f"The limit measured something else: {found} instead of {count} for {query}.")
