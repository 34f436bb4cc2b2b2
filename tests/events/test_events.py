"""The example that replaces a listener: no message is lost, and none is stored twice, whoever is killed."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from django.core.management import call_command

from dynflow_app import control
from dynflow_app.models import ExecutionPlan, Occurrence, Schedule
from dynflow_app.triggering import trigger
from project.events import actions
from project.events.actions import DrainEvents
from project.events.bus import Bus
from project.events.models import Message
from tests.acceptance.test_crashes import FAST
from tests.engine import Engine
from tests.servers_plugin import State
from tests.support import ManageProcess, Processes, wait_until

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper

pytestmark = pytest.mark.servers

SETTINGS = json.dumps({**json.loads(FAST), "DECLARE_SCHEDULES": True})
ROUNDS = 10
IN_A_ROUND = 500


@pytest.fixture
def bus(settings: SettingsWrapper) -> Iterator[Bus]:
    """The other end of the bus."""
    assert State.servers is not None
    settings.EVENTS_URL = State.servers.environ["REDIS_URL"]
    publisher = Bus()
    yield publisher
    publisher.close()
    actions.bus.close()


def numbers() -> Counter[int]:
    """Every stored message by its number."""
    return Counter(int(body["number"]) for body in Message.objects.values_list("body", flat=True))


def test_what_is_on_the_bus_is_stored_and_acknowledged(engine: Engine, bus: Bus) -> None:
    # given some messages, one of which no database would take
    call_command("publish_events", "1200", verbosity=0)
    bus.publish({"number": "1200", "text": "nul \0 and all"})

    # when they are drained, then they are stored, and the bus has none left
    assert engine.run(trigger(DrainEvents)).result == "success"
    assert numbers() == dict.fromkeys(range(1201), 1)
    assert bus.read(10) == []


def test_what_was_read_and_not_acknowledged_comes_again(engine: Engine, bus: Bus) -> None:
    # given somebody who read messages, stored some of them, and was killed before he acknowledged any
    bus.publish(*({"number": str(number)} for number in range(10)))
    received = bus.read(6)
    Message.objects.bulk_create(Message(id=key, body=fields) for key, fields in received[:3])

    # when they are drained, then each is there once
    engine.run(trigger(DrainEvents))
    assert numbers() == dict.fromkeys(range(10), 1)


def test_a_broken_connection_is_replaced(engine: Engine, bus: Bus) -> None:
    engine.run(trigger(DrainEvents))
    bus._redis.client_kill_filter(_type="normal", skipme=True)
    bus.publish({"number": "0"})
    assert engine.run(trigger(DrainEvents)).result == "success"
    assert numbers() == {0: 1}


@pytest.mark.processes
@pytest.mark.timeout(240)
def test_workers_and_orchestrators_are_killed_at_random_and_no_message_is_lost(processes: Processes, bus: Bus) -> None:
    # given the example as it is run, with a standby and two workers
    kinds = {"dynflow_orchestrator": ("dynflow_orchestrator",), "rqworker": ("rqworker", "default")}
    chance = random.Random(5)

    def start(kind: str) -> ManageProcess:
        url = State.servers.environ["REDIS_URL"] if State.servers else ""
        return processes.manage(*kinds[kind], DYNFLOW_SETTINGS=SETTINGS, EVENTS_URL=url)

    running = [start(kind) for kind in [*kinds, *kinds]]
    wait_until(Schedule.objects.exists, describe="declared")

    # when messages keep coming, and somebody is killed in every round, at any moment of it
    for number in range(ROUNDS):
        first = number * IN_A_ROUND
        enough = Message.objects.count() + chance.randrange(1, IN_A_ROUND // 2)
        bus.publish(*({"number": str(each)} for each in range(first, first + IN_A_ROUND)))
        wait_until(lambda enough=enough: Message.objects.count() >= enough, timeout=40, describe="some are stored")
        victim = running.pop(chance.randrange(len(running)))
        victim.kill()
        running.append(start(victim.arguments[0]))

    # then all are stored in the end, each once
    total = ROUNDS * IN_A_ROUND
    wait_until(lambda: Message.objects.count() >= total, timeout=60, describe="all are stored")
    assert numbers() == dict.fromkeys(range(total), 1)

    # and each process that ran steps opened one connection; no due time made two plans
    opened: Counter[str] = Counter()
    for each in processes.started:
        opened.update(re.findall(r"process (\d+) opened a connection", each.output))
    assert set(opened.values()) == {1}
    control.pause_schedule(Schedule.objects.get())
    fired = Occurrence.objects.filter(outcome="fired")
    assert fired.count() == fired.exclude(plan=None).count() == ExecutionPlan.objects.count()
