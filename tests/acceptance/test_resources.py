"""Worker resources with real processes: opened once per process that runs steps, closed when it stops."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from dynflow_app.triggering import trigger
from tests.acceptance.test_crashes import FAST
from tests.support import Processes, wait_until
from tests.testapp.connected import ManyUses
from tests.testapp.journal import Journal

pytestmark = [pytest.mark.servers, pytest.mark.processes]

SETTINGS = {**json.loads(FAST), "ACTIONS_MODULE": "connected", "WORKER_CHILDREN": 2}


def counted(journal: Journal, kind: str) -> Counter[str]:
    return Counter(line.removeprefix(f"{kind} ") for line in journal.lines if line.startswith(f"{kind} "))


@pytest.mark.parametrize("limits", [{}, {"WORKER_MAX_STEPS": 100}])
def test_each_child_opens_one_and_closes_it_when_it_stops_or_is_replaced(
    processes: Processes, journal: Journal, limits: dict[str, int]
) -> None:
    # given a worker with two children, which may be replaced now and then
    settings = json.dumps({**SETTINGS, **limits})
    processes.manage("dynflow_orchestrator", DYNFLOW_SETTINGS=settings)
    worker = processes.manage("rqworker", "default", DYNFLOW_SETTINGS=settings)

    # when they run many steps, until there were so many processes, and then stop
    def are_enough() -> bool:
        assert trigger(ManyUses, number=300).wait(timeout=60).result == "success"
        return len(counted(journal, "open")) >= (3 if limits else 1)

    wait_until(are_enough, timeout=60)
    worker.terminate()

    # then every process had a line of its own, opened once and closed once
    opened = counted(journal, "open")
    assert set(opened.values()) == {1}
    assert counted(journal, "close") == {f"{pid} {pid}": 1 for pid in opened}
    assert set(counted(journal, "use")) == {f"{pid} {pid}" for pid in opened}


def test_the_in_process_executor_has_one_too(processes: Processes, journal: Journal) -> None:
    settings = json.dumps({**SETTINGS, "EXECUTOR": "in-process"})
    executor = processes.manage("dynflow_executor", DYNFLOW_SETTINGS=settings)
    assert trigger(ManyUses, number=50).wait(timeout=60).result == "success"
    executor.terminate()
    (pid,) = counted(journal, "open")
    assert counted(journal, "close") == {f"{pid} {pid}": 1}
    assert sum(counted(journal, "use").values()) == 50


def test_an_isolated_step_has_its_own(processes: Processes, journal: Journal) -> None:
    settings = json.dumps(SETTINGS)
    processes.manage("dynflow_orchestrator", DYNFLOW_SETTINGS=settings)
    processes.manage("rqworker", "default", DYNFLOW_SETTINGS=settings)
    assert trigger(ManyUses, number=5, apart=True).wait(timeout=60).result == "success"
    opened = counted(journal, "open")
    assert len(opened) == 5
    assert counted(journal, "close") == {f"{pid} {pid}": 1 for pid in opened}


@pytest.mark.parametrize("worker_class", ["rq.Worker", "rq.SimpleWorker"])
def test_stock_rq_workers(processes: Processes, journal: Journal, worker_class: str) -> None:
    settings = json.dumps(SETTINGS)
    processes.manage("dynflow_orchestrator", DYNFLOW_SETTINGS=settings)
    worker = processes.manage("rqworker", "default", "--worker-class", worker_class, DYNFLOW_SETTINGS=settings)
    for _ in range(2):
        assert trigger(ManyUses, number=5).wait(timeout=60).result == "success"
    worker.terminate()
    opened = counted(journal, "open")
    assert set(opened.values()) == {1}
    assert set(counted(journal, "use")) == {f"{pid} {pid}" for pid in opened}
    if worker_class == "rq.SimpleWorker":
        assert counted(journal, "close") == {f"{pid} {pid}": 1 for pid in opened}
