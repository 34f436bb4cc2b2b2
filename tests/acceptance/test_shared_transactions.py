"""A worker that dies with several atomic steps in one transaction: each of them took place once, or not at all."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from dynflow_app import control
from dynflow_app.models import World, WorldKind
from dynflow_app.states import PlanResult, StepState
from dynflow_app.triggering import trigger
from tests.acceptance.test_crashes import FAST
from tests.support import Processes, wait_until
from tests.testapp.journal import Journal
from tests.testapp.sharing import Writes, written

pytestmark = [pytest.mark.servers, pytest.mark.processes]

SETTINGS = json.dumps({**json.loads(FAST), "ACTIONS_MODULE": "sharing"})
NAMES = [f"w{number}" for number in range(60)]
FAILS = "w5"


@pytest.mark.parametrize(
    "probes",
    ["user_code_returned=kill@8", "outcomes_written=kill@1", "outcomes_written=kill@2",
     "shared_work_committed=kill@1", "shared_work_committed=kill@2", "outcomes_committed=kill@2"],
)  # fmt: skip
def test_atomic_steps_whose_worker_dies_leave_what_they_wrote_once(
    processes: Processes, journal: Journal, probes: str
) -> None:
    # given atomic steps of which one fails after it has written, and a worker that dies on the way
    journal.break_(f"run {FAILS}")
    processes.manage("dynflow_orchestrator", DYNFLOW_SETTINGS=SETTINGS)
    worker = processes.manage("rqworker", "default", DYNFLOW_SETTINGS=SETTINGS, DYNFLOW_PROBES=probes)
    wait_until(World.objects.filter(kind=WorldKind.WORKER).exists, describe="it listens, so it gets the steps")
    plan = trigger(Writes, NAMES)

    # when its successor has done the rest
    plan.wait(timeout=60)
    wait_until(lambda: " is gone: " in worker.log.read_text(), describe="it did die")

    # then only what failed is in error, and nothing of it is left; all else was written once
    assert [step.action.input["name"] for step in plan.steps.filter(state=StepState.ERROR)] == [FAILS]
    assert written() == Counter(name for name in NAMES if name != FAILS)

    # and that is made good by a resume
    journal.repair(f"run {FAILS}")
    control.resume(plan)
    assert plan.wait(timeout=60).result == PlanResult.SUCCESS
    assert written() == Counter(NAMES)
