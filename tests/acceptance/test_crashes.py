"""Whatever process is killed at whatever point, every plan ends right and no step's effect takes place twice.

Each case kills a process at one probe while a plan runs, starts everything again, and looks at rows and at a file that
no database rolls back.
"""

from __future__ import annotations

import json
from collections import Counter

import pytest

from dynflow_app import control
from dynflow_app.models import Attempt, ExecutionPlan, ResourceLock
from dynflow_app.states import Phase, PlanResult, PlanState, StepState
from dynflow_app.triggering import TriggerOptions, trigger
from tests.support import Processes, wait_until
from tests.testapp.actions import Campaign, LockedCampaign
from tests.testapp.journal import Journal

pytestmark = [pytest.mark.servers, pytest.mark.processes]

WIDTH = 40
FAST = json.dumps(
    {"LEASE": 1.5, "LEASE_RENEW_INTERVAL": 0.4, "STANDBY_POLL_INTERVAL": 0.2, "SWEEP_INTERVAL": 1,
     "HEARTBEAT_INTERVAL": 0.3, "WORLD_TIMEOUT": 1.5, "WORKER_CHILDREN": 1}
)  # fmt: skip
IN_ORCHESTRATOR = ["envelopes_taken", "decision_made", "decision_committed", "lease_taken", "lease_renewed"]
IN_WORKER = [
    "steps_claimed",
    "user_code_returned",
    "outcomes_written",
    "outcomes_committed",
    "finalize_returned",
]
DEEDS = ["kill@1", "kill@3", "raise@1", "raise@3", "stop@1"]


@pytest.mark.parametrize("deed", DEEDS)
@pytest.mark.parametrize("probe", IN_ORCHESTRATOR)
def test_an_orchestrator_that_breaks_anywhere_costs_time_and_nothing_else(
    processes: Processes, journal: Journal, probe: str, deed: str
) -> None:
    # given an orchestrator that breaks at a point, a standby, and a worker
    processes.manage("dynflow_orchestrator", DYNFLOW_SETTINGS=FAST, DYNFLOW_PROBES=f"{probe}={deed}")
    processes.manage("rqworker", "default", DYNFLOW_SETTINGS=FAST)
    plan = trigger(LockedCampaign, width=WIDTH, options=TriggerOptions(plan_in_worker=True))
    processes.manage("dynflow_orchestrator", DYNFLOW_SETTINGS=FAST)

    # when the plan runs
    plan.wait(timeout=40)

    # then it ends right and everything took place exactly once
    assert (plan.state, plan.result) == (PlanState.STOPPED, PlanResult.SUCCESS)
    assert set(Counter(journal.lines).values()) == {1}
    assert len(journal.lines) == 2 * WIDTH + 1
    steps = plan.steps.exclude(phase=Phase.PLAN)
    assert steps.filter(state=StepState.SUCCESS, attempt=1).count() == 2 * WIDTH + 1
    assert not Attempt.objects.filter(step__in=steps).exists()
    wait_until(lambda: not ResourceLock.objects.filter(plan=plan).live().exists(), describe="its lock is given back")


@pytest.mark.parametrize("deed", DEEDS)
@pytest.mark.parametrize("probe", IN_WORKER)
def test_a_worker_that_breaks_anywhere_loses_nothing_and_repeats_nothing(
    processes: Processes, journal: Journal, probe: str, deed: str
) -> None:
    # given a worker whose child breaks at a point, and a sound one that comes later
    processes.manage("dynflow_orchestrator", DYNFLOW_SETTINGS=FAST)
    broken = processes.manage("rqworker", "default", DYNFLOW_SETTINGS=FAST, DYNFLOW_PROBES=f"{probe}={deed}")
    plan = trigger(Campaign, width=WIDTH)
    if probe != "finalize_returned":
        wait_until(lambda: journal.lines or not broken.running, describe="the worker begins")
    processes.manage("rqworker", "default", DYNFLOW_SETTINGS=FAST)

    # when the plan comes to rest, and a person resumes it as long as steps have an unknown outcome
    ended = rested(plan)
    unknown = {step.action.input["name"] for step in plan.steps.filter(state=StepState.ERROR).select_related("action")}
    while plan.state == PlanState.PAUSED:
        control.resume(plan, by="a person", reason="looked at the effects")
        rested(plan)

    # then it ends right, and nothing took place twice but what the person let run again
    assert ended
    assert (plan.state, plan.result) == (PlanState.STOPPED, PlanResult.SUCCESS)
    twice = {line.split()[-1] for line, times in Counter(journal.lines).items() if times > 1}
    finalized_again = {"campaign"}  # its transaction was rolled back; the journal is outside of it
    assert twice <= unknown | finalized_again
    assert {line.split()[-1] for line in journal.lines} >= {f"{row}-{n}" for row in "ab" for n in range(WIDTH)}


def rested(plan: ExecutionPlan) -> bool:
    """Wait until the plan stopped or paused."""
    plan.wait(timeout=40)
    return True
