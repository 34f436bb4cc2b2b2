"""Who used the CPU: processes that have ended are not lost, and nothing is counted twice."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from project.bench.cpu import Reading, Tree, per_unit
from project.bench.usage import Usage, own_seconds, processes, tree


def process(pid: int, parent: int, own: float, reaped: float = 0.0) -> Usage:
    return Usage(pid, parent, own, reaped, resident_bytes=0)


def worker(*usages: Usage) -> Tree:
    return Tree.of("worker", 1, {usage.pid: usage for usage in usages})


def test_a_child_that_was_replaced_is_told_apart() -> None:
    # a worker, its supervisor and a child, which had used 2 s before we looked
    before = worker(process(1, 0, 0.5), process(2, 1, 1.0), process(3, 2, 2.0))
    # the child used 3 s more and ended, so that the supervisor has reaped 5 s; another took its place
    after = worker(process(1, 0, 0.5), process(2, 1, 1.25, reaped=5.0), process(4, 2, 0.75))

    assert after.since(before, "worker") == {
        "worker": 0.0,
        "worker_supervisor": 0.25,
        "worker_child_1": 0.75,
        "worker_ended": pytest.approx(3.0),
    }


def test_children_are_numbered_by_age() -> None:
    one = worker(process(1, 0, 0.0), process(2, 1, 0.0), process(9, 2, 0.0), process(5, 2, 0.0), process(7, 6, 0.0))
    assert {name: usage.pid for name, usage in one.members.items()} == {
        "worker": 1,
        "worker_supervisor": 2,
        "worker_child_1": 5,
        "worker_child_2": 9,
    }


def test_parts_add_up_to_the_total() -> None:
    before = Reading({"worker": worker(process(1, 0, 1.0))}, {"client": 1.0, "redis": 5.0, "postgresql": 2.0})
    after = Reading({"worker": worker(process(1, 0, 1.5))}, {"client": 1.25, "redis": 5.0, "postgresql": 4.0})

    figures = per_unit(after.since(before), "hop", 1000)

    assert figures == {
        "cpu_ms_per_hop_client": 0.25,
        "cpu_ms_per_hop_worker": 0.5,
        "cpu_ms_per_hop_postgresql": 2.0,
        "cpu_ms_per_hop_redis": 0.0,
        "cpu_ms_per_hop_total": 2.75,
    }


def test_this_process_and_its_child_are_found() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        own, below = tree(os.getpid(), processes())[:2]
        assert [usage.pid for usage in own] == [os.getpid()]
        assert child.pid in [usage.pid for usage in below]
        assert (own_seconds(os.getpid()) or 0) > 0
        assert own[0].resident_bytes > 2**20
    finally:
        child.communicate()


def test_time_of_a_child_that_has_ended_is_its_parents() -> None:
    before = processes()[os.getpid()].reaped_seconds
    burn = "import time\nwhile time.process_time() < 0.2: pass"
    subprocess.run([sys.executable, "-c", burn], check=True)
    assert processes()[os.getpid()].reaped_seconds - before >= 0.15
