"""The database goes away in the middle of everything: no step is to blame for that, and no plan pauses."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from functools import partial

import pytest
from django.db import connections

from dynflow_app.models import ExecutionPlan, Step, SubPlans
from dynflow_app.states import PlanResult, PlanState, StepState
from dynflow_app.triggering import TriggerOptions, trigger
from project.servers import EmbeddedServers
from tests.acceptance.test_lost_replies import SETTINGS, worker_behind
from tests.proxy import Proxy
from tests.support import Processes, wait_until
from tests.testapp.journal import Journal
from tests.testapp.many import Parent
from tests.testapp.sharing import Writes, written

pytestmark = [pytest.mark.servers, pytest.mark.processes]

NAMES = [f"c{number}" for number in range(120)]
TIMES = 6


@pytest.fixture(params=["sessions cut", "server restarted"])
def outage(request: pytest.FixtureRequest, servers: EmbeddedServers, database_proxy: Proxy) -> Callable[[], None]:
    """Makes one."""

    def restart() -> None:
        connections.close_all()
        servers.stop_postgres()
        servers.start_postgres()

    return database_proxy.cut if request.param == "sessions cut" else restart


def test_parents_that_make_sub_plans_go_on_after_outages(
    processes: Processes, journal: Journal, database_proxy: Proxy, outage: Callable[[], None]
) -> None:
    # given parents that make many sub-plans in small batches
    processes.manage("dynflow_orchestrator", DYNFLOW_SETTINGS=SETTINGS)
    worker_behind(database_proxy, processes, ACTIONS_MODULE="many")
    plans = [trigger(Parent, names=NAMES, options=TriggerOptions(plan_in_worker=True)) for _ in range(3)]

    # when the database goes away again and again while they do
    for nth in range(1, TIMES + 1):
        wait_until(partial(made_at_least, nth * 20), describe="some more are made")
        outage()

    # then nothing has failed, and each was made once
    for plan in plans:
        assert plan.wait(timeout=60).result == PlanResult.SUCCESS
    assert not Step.objects.filter(error__isnull=False).exists()
    children = ExecutionPlan.objects.filter(parent_step__isnull=False)
    assert children.filter(state=PlanState.STOPPED, result=PlanResult.SUCCESS).count() == 3 * len(NAMES)
    assert Counter(children.values_list("position", flat=True)) == dict.fromkeys(range(len(NAMES)), 3)


def test_atomic_steps_whose_connection_breaks_are_repeated(
    processes: Processes, journal: Journal, database_proxy: Proxy
) -> None:
    # given atomic steps that write
    processes.manage("dynflow_orchestrator", DYNFLOW_SETTINGS=SETTINGS)
    worker_behind(database_proxy, processes, ACTIONS_MODULE="sharing")
    plan = trigger(Writes, NAMES)

    # when their connections are cut while they do
    while plan.steps.filter(state=StepState.SUCCESS).count() < len(NAMES):
        time.sleep(0.2)
        database_proxy.cut()
        assert plan.state != PlanState.PAUSED
        plan.refresh_from_db()

    # then each has written once, and none of them is in error
    assert plan.wait(timeout=30).result == PlanResult.SUCCESS
    assert written() == Counter(NAMES)


def made_at_least(number: int) -> bool:
    return sum(SubPlans.objects.values_list("made", flat=True)) >= number
