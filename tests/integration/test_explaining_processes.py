"""Why a plan does not move, when that lies with processes: nobody decides, nobody works, too much to do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from rq import Queue, SimpleWorker
from rq.suspension import suspend

from dynflow_app import clock, transport
from dynflow_app.models import Envelope, Step, World, WorldKind
from dynflow_app.reading.explaining import FindingCode, explain
from dynflow_app.transport.rq import RqTransport
from project.servers import EmbeddedServers
from tests.factories import PlanFactory, StepFactory, WorldFactory, add_steps
from tests.integration.explained import ago, codes, only, running

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper

pytestmark = [pytest.mark.django_db, pytest.mark.invented]


@pytest.fixture
def in_process(settings: SettingsWrapper) -> None:
    """No Redis; an executor serves every queue."""
    settings.DYNFLOW = {**settings.DYNFLOW, "EXECUTOR": "in-process"}
    WorldFactory(kind=WorldKind.EXECUTOR, queues=[])


@pytest.fixture
def redis(settings: SettingsWrapper) -> Iterator[RqTransport]:
    """Real Redis; an orchestrator is alive."""
    WorldFactory(kind=WorldKind.ORCHESTRATOR, queues=[])
    transport.reset()
    bell = transport.get()
    assert isinstance(bell, RqTransport)
    yield bell
    bell._client.close()
    bell._quick_client.close()
    transport.reset()


# --- processes -----------------------------------------------------------------------------------------------------


def test_without_an_orchestrator_nobody_starts_a_plan(in_process: None) -> None:
    # given an executor that fell silent a minute ago
    plan = PlanFactory(state="planned")
    seen = ago(minutes=3)
    World.objects.update(heartbeat_at=seen)

    # then it is missed, by the name of its command
    finding = only(plan)
    assert finding.code == FindingCode.NO_ORCHESTRATOR
    assert "last one was seen 3 min ago" in finding.message
    assert "manage.py dynflow_executor" in finding.remedy
    assert finding.since == seen


def test_without_an_orchestrator_steps_that_run_are_not_stuck(in_process: None) -> None:
    plan = running()
    World.objects.all().delete()
    StepFactory(plan=plan, state="running")

    assert explain(plan) == []


def test_redis_that_refuses_is_named_with_its_address(settings: SettingsWrapper) -> None:
    # given split services, and no Redis where the settings say
    settings.RQ_QUEUES = {name: {"URL": "redis://:secret@127.0.0.1:1/0"} for name in settings.RQ_QUEUES}
    WorldFactory(kind=WorldKind.ORCHESTRATOR, queues=[])
    plan = running()
    StepFactory(plan=plan, state="suspended", alarm="wake", alarm_at=ago(seconds=-60))

    # then that comes first, and what the step waits for next
    found = explain(plan)
    assert [finding.code for finding in found] == [FindingCode.REDIS_UNREACHABLE, FindingCode.TIMER_WAITS]
    assert "127.0.0.1:1 does not answer" in found[0].message
    assert "secret" not in str(found)


def test_an_executor_of_other_queues_leaves_a_step_waiting(in_process: None) -> None:
    # given an executor that was started for one queue, and a finalize step in another
    World.objects.update(queues=["first"])
    plan = running()
    StepFactory(plan=plan, state="ready", phase="finalize", queue="second", action__number=7)

    # then
    finding = only(plan)
    assert finding.code == FindingCode.NO_WORKER
    assert "queue 'second'" in finding.message
    assert "step 7 (finalize, project.bench.actions.NoOp)" in finding.message
    assert "dynflow_executor" in finding.remedy
    assert finding.step_number == 7


def test_a_queue_without_workers_matters_even_while_other_steps_run(in_process: None) -> None:
    World.objects.update(queues=["first"])
    plan = running()
    StepFactory(plan=plan, state="running", queue="first")
    StepFactory(plan=plan, state="ready", queue="second")

    assert codes(plan) == [FindingCode.NO_WORKER]


def test_a_long_queue_tells_how_many_are_ahead_and_how_fast_they_go(in_process: None) -> None:
    # given steps of others: some that ended, some before ours, of higher priority or older, and one behind it
    other = running()
    add_steps(other, 10, "success", first=1001)
    Step.objects.filter(number=1001).update(ended_at=ago(minutes=9))
    add_steps(other, 3, "ready")
    StepFactory(plan=other, action__number=1100, state="ready", queue="elsewhere")
    plan = running()
    step = StepFactory(plan=plan, state="ready", ready_at=ago(seconds=40), action__number=9)
    StepFactory(plan=other, action__number=1101, state="ready", priority=1)
    StepFactory(plan=other, action__number=1102, state="ready")

    # then
    finding = only(plan)
    assert finding.code == FindingCode.QUEUE_BACKED_UP
    assert "for 40 s: 4 steps are before it, 1 process listens, 1.8 steps a minute" in finding.message
    assert finding.since == step.ready_at


def test_a_long_queue_is_no_reason_while_other_steps_run(in_process: None) -> None:
    plan = running()
    StepFactory(plan=plan, state="running")
    StepFactory(plan=plan, state="ready", ready_at=ago(minutes=5))

    assert explain(plan) == []


@pytest.mark.parametrize("gone", [{"state": "invalidated"}, {"heartbeat_at": ago(minutes=5)}])
def test_a_step_whose_worker_died_is_taken_back(in_process: None, gone: dict[str, Any]) -> None:
    plan = running()
    world = WorldFactory(host="far", pid=12, **gone)
    StepFactory(plan=plan, state="running", world=world)

    finding = only(plan)
    assert finding.code == FindingCode.WORKER_LOST
    assert "was claimed by far:12" in finding.message
    assert finding.since == world.heartbeat_at


def test_a_worker_that_lives_without_talking_to_the_ledger_is_named(in_process: None) -> None:
    # given a step on a worker whose supervisor beats its heart, while it compares nothing
    plan = running()
    world = WorldFactory(host="near", pid=13, looked_at=ago(seconds=50))
    StepFactory(plan=plan, state="running", world=world, worker="near:13")

    # then
    finding = only(plan)
    assert finding.code == FindingCode.WORKER_STUCK
    assert "near:13" in finding.message
    assert "for 50 s" in finding.message
    assert "--pid 13" in finding.remedy
    assert finding.since == world.looked_at


def test_an_orchestrator_that_does_not_come_is_named(in_process: None) -> None:
    # given a plan whose steps have all ended, and an orchestrator that is alive and busy with others
    plan = running()
    add_steps(plan, 2, "success")
    for n in range(3):
        Envelope.objects.create(kind="planned", plan=PlanFactory(), due_at=ago(seconds=100 + n))
    Envelope.objects.create(kind="settled", plan=plan, due_at=ago(seconds=60))

    # then
    finding = only(plan)
    assert finding.code == FindingCode.ORCHESTRATOR_BEHIND
    assert "For 60 s" in finding.message
    assert "3 messages are before it" in finding.message


# --- with Redis ----------------------------------------------------------------------------------------------------


@pytest.mark.servers
class TestWithRedis:
    """What only Redis knows: stock workers, suspension, whether it is there."""

    def test_a_queue_is_served_by_nobody_by_a_stock_worker_or_by_ours(self, redis: RqTransport) -> None:
        # given a ready step
        plan = running()
        StepFactory(plan=plan, state="ready", ready_at=clock.now(), queue="rex")
        finding = only(plan)
        assert finding.code == FindingCode.NO_WORKER
        assert finding.remedy.endswith("manage.py rqworker rex")

        # when a stock worker of another queue comes, then one of this
        for queue, expected in (("default", [FindingCode.NO_WORKER]), ("rex", [])):
            worker = SimpleWorker([Queue(queue, connection=redis._client)], connection=redis._client)
            worker.register_birth()

            # then
            assert codes(plan) == expected

        # when it vanished without leaving, and one of ours came
        redis._client.delete(worker.key)
        assert codes(plan) == [FindingCode.NO_WORKER]
        WorldFactory(queues=["rex"])

        # then
        assert explain(plan) == []

    def test_a_queue_that_the_settings_lack(self, redis: RqTransport) -> None:
        plan = running()
        StepFactory(plan=plan, state="ready", queue="renamed")

        assert "Add 'renamed' to RQ_QUEUES" in only(plan).remedy

    def test_suspended_stock_workers_take_nothing_but_ours_do(self, redis: RqTransport) -> None:
        plan = running()
        StepFactory(plan=plan, state="ready", ready_at=clock.now())
        SimpleWorker([Queue("default", connection=redis._client)], connection=redis._client).register_birth()
        suspend(redis._client)

        finding = only(plan)
        assert finding.code == FindingCode.WORKERS_SUSPENDED
        assert "manage.py rqresume" in finding.remedy

        WorldFactory(queues=["default"])
        assert explain(plan) == []

    def test_redis_that_hangs_costs_a_fraction_of_a_second(self, redis: RqTransport, servers: EmbeddedServers) -> None:
        # given Redis that answers nobody for a while
        plan = running()
        StepFactory(plan=plan, state="ready", ready_at=clock.now())
        redis._client.client_pause(20_000)
        began = clock.monotonic()

        # when
        found = explain(plan)

        # then
        assert clock.monotonic() - began < 2
        assert [finding.code for finding in found] == [FindingCode.REDIS_UNREACHABLE]
        servers.stop_valkey()
