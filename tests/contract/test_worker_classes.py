"""The same plans end the same under our worker class and under RQ's own: what runs a step must not matter."""

from __future__ import annotations

from collections import Counter

import django_rq
import pytest

from dynflow_app.models import World
from dynflow_app.states import PlanResult, PlanState, StepState
from dynflow_app.triggering import trigger
from tests.support import Processes, wait_until
from tests.testapp.actions import Campaign, FiveFinalizers, Review, Subprocesses
from tests.testapp.journal import Journal

pytestmark = [pytest.mark.servers, pytest.mark.processes]

OURS = "dynflow_app.worker.Worker"
CLASSES = [OURS, "rq.worker.Worker", "rq.worker.SimpleWorker"]
WIDTH = 150


@pytest.mark.parametrize("worker_class", CLASSES)
def test_plans_run_to_their_end_each_step_once(processes: Processes, journal: Journal, worker_class: str) -> None:
    # given plans triggered before and after the worker came
    before = trigger(Campaign, width=WIDTH)
    processes.manage("dynflow_orchestrator")
    worker = processes.manage("rqworker", "default", "first", "--worker-class", worker_class)
    worker.wait_for_output("Listening on")
    after = [trigger(FiveFinalizers), trigger(Review)]

    # when they run
    for plan in (before, *after):
        plan.wait(timeout=40)

    # then all succeeded, each step once, and the worker is still there
    for plan in (before, *after):
        assert (plan.state, plan.result) == (PlanState.STOPPED, PlanResult.SUCCESS)
        assert plan.steps.filter(state=StepState.SUCCESS, attempt=1).count() == plan.steps.count()
    assert set(Counter(journal.lines).values()) == {1}
    assert worker.running


@pytest.mark.parametrize("worker_class", CLASSES)
def test_a_burst_ends_when_nothing_is_ready(processes: Processes, journal: Journal, worker_class: str) -> None:
    # given a plan whose first row is ready
    processes.manage("dynflow_orchestrator")
    plan = trigger(Campaign, width=20)
    wait_until(lambda: plan.steps.filter(state="ready").count() == 20, describe="the first row is ready")

    # when a worker is started in burst mode until the plan has ended
    for _ in range(5):
        burst = processes.manage("rqworker", "default", "--burst", "--worker-class", worker_class)
        assert burst.wait(timeout=30) == 0
        plan.refresh_from_db()
        if plan.state == PlanState.STOPPED:
            break
        wait_until(lambda: plan.steps.filter(state="ready").exists(), describe="something is ready again")

    # then everything ran once, and no trace of the worker is left
    plan.wait(timeout=10)
    assert set(Counter(journal.lines).values()) == {1}
    assert not World.objects.filter(kind="worker").exists()


def test_our_class_still_does_ordinary_jobs(processes: Processes, servers: object) -> None:
    # given our worker class
    worker = processes.manage("rqworker", "default")
    worker.wait_for_output("Listening on")

    # when somebody enqueues an ordinary job
    job = django_rq.get_queue("default").enqueue("operator.add", 2, 3, result_ttl=60)

    # then it is done
    wait_until(lambda: job.get_status(refresh=True) == "finished", describe="the job is done")
    assert job.return_value() == 5


def test_steps_may_start_programs_wherever_they_run(processes: Processes, journal: Journal) -> None:
    # given ready steps that start programs, and a drain job waiting beside them
    processes.manage("dynflow_orchestrator")
    plan = trigger(Subprocesses, width=80)
    wait_until(lambda: plan.steps.filter(state="ready").count() == 80, describe="all are ready")
    django_rq.get_queue("default").enqueue("dynflow_app.worker.jobs.drain", "default", result_ttl=1)

    # when a worker comes, whose child and whose work horse share them
    worker = processes.manage("rqworker", "default")
    plan.wait(timeout=30)

    # then each ran once
    assert plan.result == PlanResult.SUCCESS
    assert set(Counter(journal.lines).values()) == {1}
    assert worker.running


def test_a_worker_stops_gracefully_and_leaves_nothing(processes: Processes, journal: Journal) -> None:
    # given a worker in the middle of a plan
    processes.manage("dynflow_orchestrator")
    first = processes.manage("rqworker", "default")
    plan = trigger(Campaign, width=WIDTH)
    wait_until(lambda: journal.lines, describe="the worker begins")

    # when it is told to stop and another one comes
    assert first.terminate() == 0
    processes.manage("rqworker", "default")
    plan.wait(timeout=30)

    # then nothing is lost, and nothing ran twice
    assert plan.result == PlanResult.SUCCESS
    assert set(Counter(journal.lines).values()) == {1}
