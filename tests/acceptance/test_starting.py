"""Processes and servers may start, stop and come back in any order; each process says in one line what it waits for."""

from __future__ import annotations

import signal
from collections import Counter
from itertools import permutations

import pytest
from django.db import connection, connections

from dynflow_app.models import Leadership
from dynflow_app.states import PlanResult, PlanState
from dynflow_app.triggering import trigger
from project.servers import EmbeddedServers
from tests.acceptance.test_crashes import FAST
from tests.support import ManageProcess, Processes, wait_until
from tests.testapp.actions import Campaign
from tests.testapp.journal import Journal

pytestmark = [pytest.mark.servers, pytest.mark.processes]

ORCHESTRATOR = ("dynflow_orchestrator",)
WORKER = ("rqworker", "default")


@pytest.mark.parametrize("order", list(permutations(["orchestrator", "worker", "Redis"])), ids="-".join)
def test_redis_may_come_at_any_time(
    servers: EmbeddedServers, processes: Processes, journal: Journal, order: tuple[str, ...]
) -> None:
    # given a plan triggered while Redis is away
    servers.stop_valkey()
    plan = trigger(Campaign, width=10)

    # when Redis and the processes come in some order, each only after the one before has settled
    for what in order:
        if what == "Redis":
            servers.start_valkey()
        else:
            process = processes.manage(*(ORCHESTRATOR if what == "orchestrator" else WORKER), DYNFLOW_SETTINGS=FAST)
            here = servers.valkey.pid is not None
            process.wait_for_output(_sign_of_life(what) if here else "waiting for Redis")

    # then the plan runs, and nobody repeated his complaint
    plan.wait(timeout=30)
    assert plan.result == PlanResult.SUCCESS
    for process in processes.started:
        assert process.output.count("waiting for Redis") <= 2
        assert "Traceback" not in process.output


def test_the_database_may_come_last(servers: EmbeddedServers, processes: Processes, journal: Journal) -> None:
    # given a plan, and then no database
    plan = trigger(Campaign, width=10)
    connections.close_all()
    servers.stop_postgres()
    started = [processes.manage(*command, DYNFLOW_SETTINGS=FAST) for command in (ORCHESTRATOR, WORKER)]
    for process in started:
        process.wait_for_output("waiting for the database")

    # when it comes
    servers.start_postgres()

    # then the plan runs
    plan.wait(timeout=30)
    assert plan.result == PlanResult.SUCCESS
    assert all("Traceback" not in process.output for process in started)


def test_the_database_may_crash_under_load(servers: EmbeddedServers, processes: Processes, journal: Journal) -> None:
    # given a plan under way
    processes.manage(*ORCHESTRATOR, DYNFLOW_SETTINGS=FAST)
    processes.manage(*WORKER, DYNFLOW_SETTINGS=FAST)
    plan = trigger(Campaign, width=500)
    wait_until(lambda: len(journal.lines) > 20, describe="the worker is at it")

    # when the database is killed and comes back
    connections.close_all()
    servers.postgres.kill()
    servers.start_postgres()

    # then every step ran exactly once
    plan.wait(timeout=40)
    assert (plan.state, plan.result) == (PlanState.STOPPED, PlanResult.SUCCESS)
    assert set(Counter(journal.lines).values()) == {1}
    assert len(journal.lines) == 1001


def test_no_migrations_is_said_in_one_line(processes: Processes, servers: EmbeddedServers) -> None:
    # given a database without tables
    name = "dynflow_without_tables"
    with connection.cursor() as cursor:
        cursor.execute(f"DROP DATABASE IF EXISTS {name}")
        cursor.execute(f"CREATE DATABASE {name}")

    # when the processes start there
    started = [processes.manage(*command, POSTGRES_DB=name) for command in (ORCHESTRATOR, WORKER)]

    # then they say what to do, and go on once it is done
    for process in started:
        process.wait_for_output("Run ``manage.py migrate``")
    assert processes.manage("migrate", POSTGRES_DB=name).wait() == 0
    started[0].wait_for_output("leading")


def test_a_leader_that_wakes_up_too_late_changes_nothing(processes: Processes, journal: Journal) -> None:
    # given a leader that is stopped for longer than its lease, so that the standby leads
    old = processes.manage(*ORCHESTRATOR, DYNFLOW_SETTINGS=FAST)
    old.wait_for_output("leading")
    epoch = Leadership.objects.get().epoch
    old.signal(signal.SIGSTOP)
    new = processes.manage(*ORCHESTRATOR, DYNFLOW_SETTINGS=FAST)
    new.wait_for_output("leading")
    wait_until(lambda: Leadership.objects.get().epoch > epoch, describe="a new epoch")

    # when it wakes up and a plan runs
    old.signal(signal.SIGCONT)
    processes.manage(*WORKER, DYNFLOW_SETTINGS=FAST)
    plan = trigger(Campaign, width=30)
    plan.wait(timeout=30)

    # then it noticed, and the new leader is not disturbed
    old.wait_for_output("standing by")
    assert old.output.count("leading") == 1
    assert plan.result == PlanResult.SUCCESS
    assert set(Counter(journal.lines).values()) == {1}


def test_a_killed_leader_is_replaced_and_a_polite_one_at_once(processes: Processes, journal: Journal) -> None:
    # given a leader and a standby
    leader = processes.manage(*ORCHESTRATOR, DYNFLOW_SETTINGS=FAST)
    leader.wait_for_output("leading")
    standby = processes.manage(*ORCHESTRATOR, DYNFLOW_SETTINGS=FAST)
    standby.wait_for_output("dynflow orchestrator")

    # when the leader is killed, and later its successor asked to stop while a third stands by
    leader.kill()
    standby.wait_for_output("leading")
    third = processes.manage(*ORCHESTRATOR, DYNFLOW_SETTINGS=FAST)
    third.wait_for_output("dynflow orchestrator")
    assert standby.terminate() == 0

    # then there is always one that leads
    third.wait_for_output("leading")
    refused: ManageProcess = processes.manage(*ORCHESTRATOR, "--no-standby", DYNFLOW_SETTINGS=FAST)
    assert refused.wait() == 75


def _sign_of_life(what: str) -> str:
    return "dynflow orchestrator" if what == "orchestrator" else "Listening on"
