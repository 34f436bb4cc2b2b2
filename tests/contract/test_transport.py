"""What every transport promises, and what only Redis can break."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import pytest
from django.db import connections
from rq import Queue, SimpleWorker
from rq.suspension import resume, suspend

from dynflow_app import clock
from dynflow_app.transport.base import Transport, TransportError
from dynflow_app.transport.inline import InlineTransport
from dynflow_app.transport.rq import MOST_RINGS, RqTransport
from project.servers import EmbeddedServers

SOON = 0.05
"""Seconds after which a wait that nobody ends gives up."""
LONG = 10.0


@pytest.fixture
def redis_bells(transactional_db: None) -> Iterator[tuple[RqTransport, RqTransport]]:
    """Two processes' ends of the same Redis."""
    bells = RqTransport(), RqTransport()
    yield bells
    for one in bells:
        one._client.close()
        one._quick_client.close()


@pytest.fixture(params=["inline", pytest.param("rq", marks=pytest.mark.servers)])
def bell(request: pytest.FixtureRequest) -> Transport:
    """A transport of each kind."""
    if request.param == "inline":
        return InlineTransport()
    bells: tuple[RqTransport, RqTransport] = request.getfixturevalue("redis_bells")
    return bells[0]


def test_a_ring_is_heard_once(bell: Transport) -> None:
    bell.ring_orchestrator()
    bell.ring_queues({"default": 1})

    assert bell.wait_orchestrator(LONG)
    assert bell.wait_queues(["default"], LONG)
    assert not bell.wait_orchestrator(SOON)
    assert not bell.wait_queues(["default"], SOON)


def test_a_ring_that_is_passed_on_is_heard_by_the_next(bell: Transport) -> None:
    bell.ring_queues({"default": 1})
    assert bell.wait_queues(["default"], LONG)

    bell.pass_on(["default"])

    assert bell.wait_queues(["default"], LONG)
    assert not bell.wait_queues(["default"], SOON)


def test_nothing_ready_rings_nothing(bell: Transport) -> None:
    bell.ring_queues({"default": 0})

    assert not bell.wait_queues(["default"], SOON)


def test_who_waits_is_woken(bell: Transport) -> None:
    heard: list[bool] = []

    def wait() -> None:
        heard.append(bell.wait_queues(["rex", "default"], LONG))
        connections.close_all()

    bell.ring_orchestrator()  # whoever asks first looks up the installation's name
    waiting = threading.Thread(target=wait)
    waiting.start()

    bell.ring_queues({"default": 1})
    waiting.join(LONG)

    assert heard == [True]


def test_a_lease_may_be_renewed_and_taken_again_after_release(bell: Transport) -> None:
    lease = bell.lease(LONG)

    assert lease.acquire()
    assert lease.renew()
    lease.release()
    assert bell.lease(LONG).acquire()


def test_nobody_is_suspended_and_no_stock_worker_is_there_at_first(bell: Transport) -> None:
    assert not bell.is_suspended()
    assert bell.stock_workers("default") == 0


@pytest.mark.servers
class TestRedis:
    """Redis may be emptied, may be away, and may know less than the ledger."""

    def test_one_lease_is_held_by_one_only_and_lost_when_redis_is_emptied(
        self, redis_bells: tuple[RqTransport, RqTransport]
    ) -> None:
        bell, other = redis_bells
        lease = bell.lease(LONG)
        assert lease.acquire()
        assert not other.lease(LONG).acquire()

        bell._client.flushall()

        assert not lease.renew()
        assert other.lease(LONG).acquire()

    def test_rings_nobody_hears_do_not_pile_up(self, redis_bells: tuple[RqTransport, RqTransport]) -> None:
        bell = redis_bells[0]
        for _ in range(20):
            bell.ring_queues({"default": 1000})

        heard = 0
        while bell.wait_queues(["default"], SOON):
            heard += 1
        assert heard == MOST_RINGS

    def test_a_queue_that_is_gone_is_only_logged(
        self, redis_bells: tuple[RqTransport, RqTransport], caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.WARNING):
            redis_bells[0].ring_queues({"gone": 3})

        assert "no queue 'gone' in RQ_QUEUES" in caplog.text

    def test_while_redis_is_away_rings_are_silent_and_waits_let_look(
        self, redis_bells: tuple[RqTransport, RqTransport], servers: EmbeddedServers
    ) -> None:
        bell = redis_bells[0]
        bell.ring_orchestrator()
        servers.stop_valkey()

        bell.ring_orchestrator()
        bell.ring_queues({"default": 1})
        assert bell.wait_queues(["default"], SOON)
        with pytest.raises(TransportError):
            bell.check()
        with pytest.raises(TransportError):
            bell.lease(LONG).acquire()
        with pytest.raises(TransportError, match="does not answer"):
            bell.is_suspended()
        with pytest.raises(TransportError, match="does not answer"):
            bell.stock_workers("default")

    def test_stock_workers_are_those_of_the_queue_that_are_neither_ours_nor_gone(
        self, redis_bells: tuple[RqTransport, RqTransport]
    ) -> None:
        # given a worker of another queue, one of ours, one that vanished, and one that is right
        bell = redis_bells[0]
        workers = {}
        for name, queue in (("other", "rex"), ("ours", "default"), ("gone", "default"), ("right", "default")):
            queues = [Queue(queue, connection=bell._client)]
            workers[name] = SimpleWorker(queues, name=name, connection=bell._client)
            workers[name].register_birth()
        bell.listens("ours", ["default"])
        bell._client.delete(workers["gone"].key)

        # then
        assert bell.stock_workers("default") == 1

    def test_suspension_is_seen(self, redis_bells: tuple[RqTransport, RqTransport]) -> None:
        bell = redis_bells[0]

        suspend(bell._client)
        assert bell.is_suspended()
        resume(bell._client)
        assert not bell.is_suspended()

    def test_questions_do_not_wait_for_redis_that_hangs(self, redis_bells: tuple[RqTransport, RqTransport]) -> None:
        bell = redis_bells[0]
        bell._client.client_pause(2_000)
        began = clock.monotonic()

        with pytest.raises(TransportError):
            bell.is_suspended()

        assert clock.monotonic() - began < 1
        bell._client.client_unpause()
