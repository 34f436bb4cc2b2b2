"""What happens to the steps of a worker that is gone: nothing runs twice, nothing hangs, nothing is hidden."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter

import psutil
import pytest

from dynflow_app import control
from dynflow_app.messages import EndedAs
from dynflow_app.models import Attempt, World, WorldKind
from dynflow_app.states import PlanResult, PlanState, StepState
from dynflow_app.triggering import trigger
from tests.acceptance.test_crashes import FAST
from tests.support import Processes, wait_until
from tests.testapp.actions import SlowRows, SlowRowsThatMayBeRepeated
from tests.testapp.journal import Journal
from tests.testapp.sharing import Writes, written

pytestmark = [pytest.mark.servers, pytest.mark.processes]

SECONDS = 0.3


def test_a_worker_killed_whole_leaves_steps_in_error_and_the_rest_goes_on(
    processes: Processes, journal: Journal
) -> None:
    # given a plan that two workers share
    processes.manage("dynflow_orchestrator", DYNFLOW_SETTINGS=FAST)
    doomed = processes.manage("rqworker", "default", DYNFLOW_SETTINGS=FAST)
    processes.manage("rqworker", "default", DYNFLOW_SETTINGS=FAST)
    wait_until(lambda: World.objects.filter(kind=WorldKind.WORKER).count() == 2, describe="two workers")
    plan = trigger(SlowRows, rows=1, width=60, seconds=SECONDS)
    doomed_child = child_of(doomed.pid)
    at_it = plan.steps.filter(state="running", ticket__world__pid=doomed_child)
    wait_until(at_it.exists, describe="it is at it")

    # when one of them is killed, parent and all, in the middle of its steps
    doomed.signal(signal.SIGKILL)

    # then what it had begun is in error with an unknown outcome, and everything else has run once
    plan.wait(timeout=40)
    assert plan.state == PlanState.PAUSED
    lost = plan.steps.filter(state=StepState.ERROR)
    assert 1 <= lost.count() <= 10
    assert {step.error["class"] for step in lost} == {"OutcomeUnknown"}
    assert plan.steps.filter(state=StepState.SUCCESS).count() == 60 - lost.count()
    assert set(Counter(journal.lines).values()) == {1}
    assert Attempt.objects.filter(step__plan=plan, ended_as=EndedAs.LOST).count() == lost.count()

    # and once a person has looked, the plan ends
    control.resume(plan, by="a person")
    assert plan.wait(timeout=30).result == PlanResult.SUCCESS


def test_steps_that_may_be_repeated_run_again_by_themselves(processes: Processes, journal: Journal) -> None:
    # given idempotent steps under way
    processes.manage("dynflow_orchestrator", DYNFLOW_SETTINGS=FAST)
    worker = processes.manage("rqworker", "default", DYNFLOW_SETTINGS=FAST)
    wait_until(World.objects.filter(kind=WorldKind.WORKER).exists, describe="the worker listens")
    plan = trigger(SlowRowsThatMayBeRepeated, width=30, seconds=SECONDS)
    wait_until(lambda: plan.steps.filter(state="running").exists(), describe="the worker is at it")

    # when the child that runs them is killed
    os.kill(child_of(worker.pid), signal.SIGKILL)

    # then the plan succeeds without anybody's help
    assert plan.wait(timeout=30).result == PlanResult.SUCCESS
    assert Attempt.objects.filter(step__plan=plan, ended_as=EndedAs.LOST).exists()
    assert len(set(journal.lines)) == 30


def test_a_worker_without_supervisor_stops_and_its_steps_are_recovered(processes: Processes, journal: Journal) -> None:
    # given a worker under way
    processes.manage("dynflow_orchestrator", DYNFLOW_SETTINGS=FAST)
    worker = processes.manage("rqworker", "default", DYNFLOW_SETTINGS=FAST)
    wait_until(World.objects.filter(kind=WorldKind.WORKER).exists, describe="the worker listens")
    plan = trigger(SlowRowsThatMayBeRepeated, width=30, seconds=SECONDS)
    wait_until(lambda: plan.steps.filter(state="running").exists(), describe="the worker is at it")

    # when its supervisor is killed
    child = psutil.Process(child_of(worker.pid))
    child.parent().kill()

    # then the child dies with it, the worker says so and ends, and another one finishes the plan
    assert worker.wait() == 1
    assert "the supervisor ended" in worker.output
    wait_until(lambda: not child.is_running(), describe="the child is gone")
    processes.manage("rqworker", "default", DYNFLOW_SETTINGS=FAST)
    assert plan.wait(timeout=40).result == PlanResult.SUCCESS


def test_a_child_that_has_grown_too_old_is_replaced_and_nothing_is_lost(processes: Processes, journal: Journal) -> None:
    # given a worker whose children live for fifty steps only
    processes.manage("dynflow_orchestrator")
    processes.manage("rqworker", "default", DYNFLOW_SETTINGS='{"WORKER_MAX_STEPS": 50}')
    pids = set()

    # when many more are to be run
    plan = trigger(SlowRows, rows=3, width=60, seconds=0.05)
    while plan.state != PlanState.STOPPED:
        pids |= set(World.objects.filter(kind=WorldKind.WORKER).values_list("pid", flat=True))
        plan.refresh_from_db()

    # then several children did it, each step once
    assert plan.result == PlanResult.SUCCESS
    assert len(pids) > 2
    assert set(Counter(journal.lines).values()) == {1}
    assert plan.steps.filter(state=StepState.SUCCESS, attempt=1).count() == 180


def test_a_limit_below_the_size_of_a_newborn_breeds_no_processes(processes: Processes, journal: Journal) -> None:
    # given a memory limit that every child exceeds as soon as it has done something
    processes.manage("dynflow_orchestrator")
    worker = processes.manage(
        "rqworker", "default", DYNFLOW_SETTINGS='{"WORKER_MEMORY_LIMIT": 20000000, "WORKER_CHILDREN": 1}'
    )

    # when steps run that keep the children which are to leave
    plan = trigger(SlowRows, rows=2, width=40, seconds=0.4)
    most = 0
    while plan.state != PlanState.STOPPED:
        most = max(most, len(psutil.Process(worker.pid).children(recursive=True)))
        plan.refresh_from_db()

    # then there never were more than the supervisor, a child, one that leaves, and a work horse
    assert most <= 4
    assert plan.result == PlanResult.SUCCESS
    assert set(Counter(journal.lines).values()) == {1}


def child_of(worker: int) -> int:
    """The process that runs the steps of an rqworker: the grandchild that the ledger knows."""
    below = {process.pid for process in psutil.Process(worker).children(recursive=True)}
    (pid,) = World.objects.filter(kind=WorldKind.WORKER, pid__in=below).values_list("pid", flat=True)
    return int(pid)


def test_a_host_that_freezes_inside_a_transaction_keeps_nobody_from_the_plan(
    processes: Processes, journal: Journal
) -> None:
    # given a worker that stops before the commit of an atomic step, with all its processes
    settings = json.dumps({**json.loads(FAST), "ACTIONS_MODULE": "sharing"})
    processes.manage("dynflow_orchestrator", DYNFLOW_SETTINGS=FAST)
    frozen = processes.manage(
        "rqworker", "default", DYNFLOW_SETTINGS=settings, DYNFLOW_PROBES="outcomes_written=stop@1"
    )
    wait_until(World.objects.filter(kind=WorldKind.WORKER).exists, describe="the worker listens")
    plan = trigger(Writes, ["a"])
    child = psutil.Process(child_of(frozen.pid))
    wait_until(lambda: child.status() == psutil.STATUS_STOPPED, describe="it stops")
    os.killpg(frozen.pid, signal.SIGSTOP)

    # when another one is there, then it does that step, and need not wait until the first one wakes
    processes.manage("rqworker", "default", DYNFLOW_SETTINGS=settings)
    assert plan.wait(timeout=30).result == PlanResult.SUCCESS
    assert child.status() == psutil.STATUS_STOPPED
    assert written() == Counter(["a"])
