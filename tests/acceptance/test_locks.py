"""Locks while real processes are killed at random: never two at once, nobody forgotten."""

from __future__ import annotations

import json
import random

import pytest

from dynflow_app import control
from dynflow_app.models import ExecutionPlan, ResourceLock
from dynflow_app.triggering import trigger
from tests.acceptance.test_crashes import FAST
from tests.integration.test_locks_random import cycles, passed, waits_for
from tests.invariants import conflicts
from tests.support import ManageProcess, Processes, wait_until
from tests.testapp import locking
from tests.testapp.journal import Journal

pytestmark = [pytest.mark.servers, pytest.mark.processes, pytest.mark.slow, pytest.mark.timeout(300)]

PLANS = 200
SETTINGS = json.dumps({**json.loads(FAST), "ACTIONS_MODULE": "locking"})


def test_killed_processes_never_let_two_have_the_same(processes: Processes, journal: Journal) -> None:
    chance = random.Random(7)

    # given an orchestrator, a standby and two workers, and plans over ten resources
    def start(kind: str) -> ManageProcess:
        arguments = ("rqworker", "default") if kind == "worker" else ("dynflow_orchestrator",)
        return processes.manage(*arguments, DYNFLOW_SETTINGS=SETTINGS)

    names = ("orchestrator 1", "orchestrator 2", "worker 1", "worker 2")
    running = {name: start(name.partition(" ")[0]) for name in names}
    for number in range(PLANS):
        chosen = chance.sample(range(10), k=chance.randint(1, 3))
        resources = [f"r{n}" for n in chosen]
        shared = tuple(resource for resource in resources if chance.random() < 0.5)
        trigger(locking.UseHost, str(number), *(set(resources) - set(shared)), shared=shared)

    def stopped() -> int:
        """How many plans have; a paused one keeps its locks, so others wait until a person resumes it."""
        for plan in ExecutionPlan.objects.filter(state="paused"):
            control.resume(plan)
        return ExecutionPlan.objects.filter(state="stopped").count()

    # when processes are killed and started again, and a person resumes what had an unknown outcome
    for _ in range(6):
        wanted = min(stopped() + 16, PLANS)
        wait_until(lambda wanted=wanted: stopped() >= wanted, timeout=60, describe="some plans stop")
        victim = chance.choice(list(running))
        running[victim].kill()
        running[victim] = start(victim.partition(" ")[0])
        assert cycles(waits_for()) == []

    wait_until(lambda: stopped() == PLANS, timeout=120, describe="all plans stop")

    # then all have ended, and nobody ever had what another one had, nor before one who came earlier
    wait_until(lambda: not ResourceLock.objects.live().exists())
    locks = list(ResourceLock.objects.select_related("plan"))
    assert all(lock.held_at for lock in locks)
    assert list(conflicts(locks)) == []
    assert list(passed(locks)) == []
    assert {line.split()[-1] for line in journal.lines} == {str(number) for number in range(PLANS)}
