"""Somebody opens a shell, locks a row and goes to lunch: whoever needs that row waits, and nobody else."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from django.db import connection

from dynflow_app.models import ExecutionPlan, Leadership, World, WorldKind
from dynflow_app.reading.explaining import FindingCode, explain
from dynflow_app.states import PlanResult, StepState
from dynflow_app.triggering import TriggerOptions, trigger, trigger_many
from tests.acceptance.test_crashes import FAST
from tests.acceptance.test_lost_replies import SETTINGS
from tests.acceptance.test_lost_workers import child_of
from tests.support import Processes, wait_until
from tests.testapp.actions import Record, RecordFirst, SlowRowsThatMayBeRepeated
from tests.testapp.journal import Journal

pytestmark = [pytest.mark.servers, pytest.mark.processes]


def test_a_plan_that_cannot_be_started_keeps_nobody_else(processes: Processes, journal: Journal) -> None:
    # given a plan to be started, of which somebody has locked the row, and a worker
    plan = trigger(Record, name="blocked", options=TriggerOptions(plan_in_worker=True))
    with locked(plan) as pid:
        processes.manage("dynflow_orchestrator", DYNFLOW_SETTINGS=SETTINGS)
        processes.manage("rqworker", "default", DYNFLOW_SETTINGS=SETTINGS)

        # when others come, then they run to their end
        later = TriggerOptions(plan_in_worker=True)
        for other in trigger_many(Record, [{"name": f"n{number}"} for number in range(30)], options=later):
            assert other.wait(timeout=20).result == PlanResult.SUCCESS

        # and the plan itself says who is in its way
        wait_until(lambda: explain(plan), describe="the lock is a while old")
        finding = explain(plan)[0]
        assert finding.code == FindingCode.ROW_LOCKED
        assert f"pid {pid}, 'a shell'" in finding.message

    # and once that is over it goes on by itself
    assert plan.wait(timeout=30).result == PlanResult.SUCCESS
    assert explain(plan) == []


def test_a_plan_whose_step_ends_keeps_no_other_step_of_its_worker(processes: Processes, journal: Journal) -> None:
    # given a plan under way on the only child of a worker
    processes.manage("dynflow_orchestrator", DYNFLOW_SETTINGS=FAST)
    processes.manage("rqworker", "default", DYNFLOW_SETTINGS=FAST)
    wait_until(World.objects.filter(kind=WorldKind.WORKER).exists, describe="it listens")
    plan = trigger(SlowRowsThatMayBeRepeated, width=4, seconds=0.3)
    wait_until(plan.steps.filter(state=StepState.RUNNING).exists, describe="it runs")

    # when somebody locks its row while its steps end
    with locked(plan):
        for number in range(30):
            assert trigger(Record, name=f"n{number}").wait(timeout=20).result == PlanResult.SUCCESS
        assert plan.steps.filter(state=StepState.RUNNING).count() >= 1

    # then it ends as soon as it can, and each step has run once
    assert plan.wait(timeout=30).result == PlanResult.SUCCESS
    assert plan.steps.filter(attempt=1).count() == 4


def test_a_dead_child_whose_plan_is_locked_is_replaced_and_the_rest_of_its_steps_taken_back(
    processes: Processes, journal: Journal
) -> None:
    # given two plans under way on one child
    processes.manage("dynflow_orchestrator", DYNFLOW_SETTINGS=FAST)
    worker = processes.manage("rqworker", "default", DYNFLOW_SETTINGS=FAST)
    wait_until(World.objects.filter(kind=WorldKind.WORKER).exists, describe="it listens")
    plans = [trigger(SlowRowsThatMayBeRepeated, width=2, seconds=0.7) for _ in range(2)]
    wait_until(lambda: all(p.steps.filter(state=StepState.RUNNING).exists() for p in plans), describe="both run")

    # when the row of one of them is locked, and the child is killed
    with locked(plans[0]):
        os.kill(child_of(worker.pid), signal.SIGKILL)

        # then the other plan goes on, with another child
        assert plans[1].wait(timeout=30).result == PlanResult.SUCCESS
        wait_until(lambda: World.objects.filter(kind=WorldKind.WORKER, state="active").exists(), describe="a child")

    # and the first one once it is free
    assert plans[0].wait(timeout=40).result == PlanResult.SUCCESS


def test_a_standby_takes_over_whatever_plan_is_locked(processes: Processes, journal: Journal) -> None:
    # given a leader and a standby, and a plan to be started whose row is locked
    leader = processes.manage("dynflow_orchestrator", DYNFLOW_SETTINGS=FAST)
    leader.wait_for_output("took the lease")
    processes.manage("dynflow_orchestrator", DYNFLOW_SETTINGS=FAST)
    processes.manage("rqworker", "default", DYNFLOW_SETTINGS=FAST)
    plan = trigger(Record, name="blocked", options=TriggerOptions(plan_in_worker=True))
    with locked(plan):
        # when the leader is stopped, wherever it is
        leader.signal(signal.SIGSTOP)

        # then the standby leads, and other plans go on
        wait_until(lambda: Leadership.objects.get().epoch == 2, describe="the standby leads")
        other = trigger(Record, name="other", options=TriggerOptions(plan_in_worker=True))
        assert other.wait(timeout=20).result == PlanResult.SUCCESS
    assert plan.wait(timeout=30).result == PlanResult.SUCCESS


def test_a_ready_step_whose_row_is_locked_is_passed(processes: Processes, journal: Journal) -> None:
    # given a step that is next in line in its queue, of which somebody has locked the row, and a worker of two queues
    first = trigger(RecordFirst, name="blocked", options=TriggerOptions(priority=5))
    with locked(first, "SELECT 1 FROM dynflow_app_step WHERE plan_id = %s FOR UPDATE"):
        processes.manage("dynflow_orchestrator", DYNFLOW_SETTINGS=FAST)
        processes.manage("rqworker", "first", "default", DYNFLOW_SETTINGS=FAST)

        # then others of both queues run to their end
        for number in range(10):
            for action in (Record, RecordFirst):
                assert trigger(action, name=f"n{number}").wait(timeout=20).result == PlanResult.SUCCESS
        assert first.steps.get().state == StepState.READY

    # and once it is free it runs
    assert first.wait(timeout=30).result == PlanResult.SUCCESS


@contextmanager
def locked(
    plan: ExecutionPlan, how: str = "SELECT 1 FROM dynflow_app_executionplan WHERE id = %s FOR UPDATE"
) -> Iterator[int]:
    """Somebody else's session that keeps the row; its pid."""
    given: dict[str, Any] = connection.get_connection_params()
    wanted = {key: given[key] for key in ("host", "port", "user", "password", "dbname") if given.get(key)}
    with psycopg.connect(**wanted, application_name="a shell") as session:
        session.execute(how, [plan.pk])
        yield session.info.backend_pid
