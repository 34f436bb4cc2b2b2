"""Connections that die without a word: nothing passes any more, and nobody says so."""

from __future__ import annotations

import json
import signal
import time
from collections import Counter

import psutil
import pytest

from dynflow_app.models import Leadership
from dynflow_app.states import PlanResult, StepState
from dynflow_app.triggering import TriggerOptions, trigger
from tests.acceptance.test_lost_replies import SETTINGS, worker_behind
from tests.proxy import Proxy
from tests.support import Processes, wait_until
from tests.testapp.actions import Record, SlowRows
from tests.testapp.journal import Journal

pytestmark = [pytest.mark.servers, pytest.mark.processes]

PATIENT = json.dumps({**json.loads(SETTINGS), "WORLD_TIMEOUT": 30})
MOST_SECONDS = 25
"""Until it is noticed and made good; 20 of them are promised, the rest is for a busy machine."""


def test_a_worker_whose_connections_are_forgotten_goes_on_with_others(
    processes: Processes, journal: Journal, database_proxy: Proxy
) -> None:
    # given a worker under way
    processes.manage("dynflow_orchestrator", DYNFLOW_SETTINGS=PATIENT)
    worker_behind(database_proxy, processes, WORLD_TIMEOUT=30)
    plan = trigger(SlowRows, rows=1, width=20, seconds=0.2)
    wait_until(lambda: journal.lines, describe="it runs")

    # when nothing passes on its connections any more
    database_proxy.forget()

    # then it notices, and the plan ends; each step has run once
    assert plan.wait(timeout=MOST_SECONDS).result == PlanResult.SUCCESS
    assert set(Counter(journal.lines).values()) == {1}


def test_a_leader_whose_connections_are_forgotten_leads_again_and_ends_when_it_is_told_to(
    processes: Processes, journal: Journal, database_proxy: Proxy
) -> None:
    # given a leader, alone
    leader = processes.manage("dynflow_orchestrator", DYNFLOW_SETTINGS=PATIENT, **database_proxy.environ)
    leader.wait_for_output("took the lease")
    processes.manage("rqworker", "default", DYNFLOW_SETTINGS=PATIENT)

    # when its connections are forgotten, then it leads again, and starts what is to be started
    database_proxy.forget()
    plan = trigger(Record, name="a", options=TriggerOptions(plan_in_worker=True))
    assert plan.wait(timeout=MOST_SECONDS).result == PlanResult.SUCCESS
    assert Leadership.objects.get().epoch >= 1

    # and when they are forgotten once more, it ends all the same when it is told to
    database_proxy.forget()
    began = time.monotonic()
    leader.signal(signal.SIGTERM)
    assert leader.wait(timeout=MOST_SECONDS) == 0, "it took its leave"
    assert time.monotonic() - began < MOST_SECONDS


def test_a_work_horse_whose_worker_is_killed_while_the_database_is_away_goes_too(
    processes: Processes, journal: Journal, database_proxy: Proxy
) -> None:
    # given a stock worker whose work horse runs steps
    processes.manage("dynflow_orchestrator", DYNFLOW_SETTINGS=PATIENT)
    worker = processes.manage(
        "rqworker", "default", "--worker-class", "rq.worker.Worker", DYNFLOW_SETTINGS=PATIENT, **database_proxy.environ
    )
    plan = trigger(SlowRows, rows=1, width=2, seconds=3)
    wait_until(plan.steps.filter(state=StepState.RUNNING).exists, describe="it runs")
    (horse,) = psutil.Process(worker.pid).children()

    # when the database goes away, and the worker is killed
    database_proxy.hold()
    worker.signal(signal.SIGKILL)

    # then the work horse goes, too
    horse.wait(timeout=20)
