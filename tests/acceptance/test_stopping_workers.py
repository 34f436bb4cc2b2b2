"""Workers end when they are told to, whatever they are at, and standbys say what they are."""

from __future__ import annotations

import json
import signal
import time

import pytest

from dynflow_app.models import World, WorldKind
from dynflow_app.states import PlanResult, StepState
from dynflow_app.triggering import trigger
from tests.acceptance.test_crashes import FAST
from tests.acceptance.test_lost_replies import SETTINGS
from tests.support import ManageProcess, Processes, wait_until
from tests.testapp.actions import Record, SlowRows
from tests.testapp.journal import Journal

pytestmark = [pytest.mark.servers, pytest.mark.processes]

LONG = 60.0
AT_ONCE = 10.0


def ended_within(worker: ManageProcess, seconds: float) -> float:
    """Seconds until it has ended."""
    began = time.monotonic()
    worker.wait(timeout=seconds)
    return time.monotonic() - began


def test_a_step_that_was_ready_before_its_worker_came_does_not_keep_that_from_ending(
    processes: Processes, journal: Journal
) -> None:
    # given a step for which an RQ job was enqueued, since no worker was there, and a worker with little grace
    processes.manage("dynflow_orchestrator", DYNFLOW_SETTINGS=SETTINGS)
    plan = trigger(SlowRows, rows=1, width=1, seconds=LONG)
    patience = json.dumps({**json.loads(SETTINGS), "WORKER_STOP_TIMEOUT": 2})
    worker = processes.manage("rqworker", "default", DYNFLOW_SETTINGS=patience)
    wait_until(plan.steps.filter(state=StepState.RUNNING).exists, describe="it runs")
    worker.wait_for_output("Job OK")

    # when it is told to stop, then it does, after its grace
    worker.signal(signal.SIGTERM)
    assert ended_within(worker, AT_ONCE + 2) >= 1


def test_a_second_sigterm_ends_a_worker_at_once(processes: Processes, journal: Journal) -> None:
    # given a worker that waits for a long step
    processes.manage("dynflow_orchestrator", DYNFLOW_SETTINGS=SETTINGS)
    worker = processes.manage("rqworker", "default", DYNFLOW_SETTINGS=SETTINGS)
    wait_until(World.objects.filter(kind=WorldKind.WORKER).exists, describe="it listens")
    plan = trigger(SlowRows, rows=1, width=1, seconds=LONG)
    wait_until(plan.steps.filter(state=StepState.RUNNING).exists, describe="it runs")

    # when it gets two signals, one right after the other
    worker.signal(signal.SIGTERM)
    time.sleep(0.2)
    worker.signal(signal.SIGTERM)

    # then it does not wait
    ended_within(worker, AT_ONCE)


def test_a_worker_that_leaves_rq_jobs_to_its_children_runs_what_was_ready_before(
    processes: Processes, journal: Journal
) -> None:
    processes.manage("dynflow_orchestrator", DYNFLOW_SETTINGS=SETTINGS)
    plans = [trigger(Record, name=f"n{number}") for number in range(20)]
    processes.manage("rqworker", "default", DYNFLOW_SETTINGS=SETTINGS)
    for plan in plans:
        assert plan.wait(timeout=20).result == PlanResult.SUCCESS


def test_a_standby_says_that_it_stands_by(processes: Processes) -> None:
    leader = processes.manage("dynflow_orchestrator", DYNFLOW_SETTINGS=FAST)
    leader.wait_for_output("took the lease")
    standby = processes.manage("dynflow_orchestrator", DYNFLOW_SETTINGS=FAST)
    standby.wait_for_output("standing by")
    assert "standing by" not in leader.output
