"""What was committed while the reply got lost took place once, and nothing hangs because nobody knows of it."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from dynflow_app.models import SubPlans, World, WorldKind
from dynflow_app.states import PlanResult, StepState
from dynflow_app.triggering import trigger
from tests.acceptance.test_crashes import FAST
from tests.proxy import Proxy
from tests.support import ManageProcess, Processes, wait_until
from tests.testapp.actions import LockedCampaign
from tests.testapp.journal import Journal
from tests.testapp.many import LimitedParent
from tests.testapp.whole import WakesItself

pytestmark = [pytest.mark.servers, pytest.mark.processes]

WIDTH = 40
SETTINGS = json.dumps({**json.loads(FAST), "LEASE": 10, "LEASE_RENEW_INTERVAL": 3})


def test_steps_that_were_claimed_again_without_a_word_do_not_run_for_ever(
    processes: Processes, journal: Journal, database_proxy: Proxy
) -> None:
    # given steps that suspend with an event waiting, so that one transaction records that and claims them again
    processes.manage("dynflow_orchestrator", DYNFLOW_SETTINGS=SETTINGS)
    worker = worker_behind(database_proxy, processes, ACTIONS_MODULE="whole")

    # when the reply to each of these transactions is lost
    database_proxy.swallow(b"COMMIT", times=5)
    plans = [trigger(WakesItself, after=0) for _ in range(5)]

    # then nobody has these steps, and their worker finds out by itself
    for plan in plans:
        assert plan.wait(timeout=30).result == PlanResult.SUCCESS
        assert plan.steps.get().action.output == {"got": 7}
    assert len(database_proxy.swallowed) >= 1
    worker.wait_for_output("handed back")


@pytest.mark.parametrize("pattern", [b"dynflow_turn_1", b"COMMIT"])
def test_whatever_reply_is_lost_each_effect_takes_place_once(
    processes: Processes, journal: Journal, database_proxy: Proxy, pattern: bytes
) -> None:
    # given a plan of all phases under way
    processes.manage("dynflow_orchestrator", DYNFLOW_SETTINGS=SETTINGS)
    worker_behind(database_proxy, processes)

    # when replies to its worker get lost again and again
    database_proxy.swallow(pattern, times=8)
    plan = trigger(LockedCampaign, width=WIDTH)

    # then it ends right, and each step has run just once
    assert plan.wait(timeout=60).result == PlanResult.SUCCESS
    assert len(database_proxy.swallowed) >= 2
    assert set(Counter(journal.lines).values()) == {1}
    assert not plan.steps.exclude(state=StepState.SUCCESS).exists()


@pytest.mark.parametrize("pattern", [b"dynflow_turn_1", b"COMMIT"])
def test_whatever_reply_is_lost_each_sub_plan_is_made_and_counted_once(
    processes: Processes, journal: Journal, database_proxy: Proxy, pattern: bytes
) -> None:
    # given a parent that is woken again and again to make some more of its sub-plans
    processes.manage("dynflow_orchestrator", DYNFLOW_SETTINGS=SETTINGS)
    worker_behind(database_proxy, processes, ACTIONS_MODULE="many")

    # when replies to its worker get lost
    database_proxy.swallow(pattern, times=8)
    plan = trigger(LimitedParent, names=[f"c{number}" for number in range(40)], limit=5)

    # then each of them has run once, and the parent has heard of all
    assert plan.wait(timeout=60).result == PlanResult.SUCCESS
    assert len(database_proxy.swallowed) >= 2
    row = SubPlans.objects.get(step__plan=plan)
    assert (row.made, row.success, row.ended) == (40, 40, 40)
    assert set(Counter(line for line in journal.lines if line.startswith("run")).values()) == {1}


def worker_behind(proxy: Proxy, processes: Processes, **settings: object) -> ManageProcess:
    """A worker whose connections pass the proxy, ready to work."""
    given = json.dumps({**json.loads(SETTINGS), **settings})
    worker = processes.manage("rqworker", "default", DYNFLOW_SETTINGS=given, **proxy.environ)
    wait_until(World.objects.filter(kind=WorldKind.WORKER).exists, describe="the worker listens")
    return worker
