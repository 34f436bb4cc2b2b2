"""What PostgreSQL does by itself with sessions whose process does not go on, or that wait for locks."""

from __future__ import annotations

import threading
from uuid import uuid4

import pytest
from django.db import OperationalError, connection, connections, transaction

from dynflow_app.ledger import silence
from dynflow_app.ledger.sessions import end_sessions_of, guard_shared_transaction, guarded_sessions
from dynflow_app.models.base import execute, is_session_lost, is_victim, open_session
from project.servers import EmbeddedServers
from tests.factories import PlanFactory
from tests.proxy import Proxy

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.servers]

SETTINGS = ("lock_timeout", "idle_in_transaction_session_timeout", "application_name")


def seen() -> list[str]:
    return [execute(f"SHOW {name}")[0][0] for name in SETTINGS]


def test_sessions_are_guarded_from_now_on_and_as_they_were_afterwards() -> None:
    before = seen()
    world = uuid4()
    with guarded_sessions(world):
        assert seen() == ["1s", "5s", f"dynflow {world}"]
        connection.close()
        assert seen() == ["1s", "5s", f"dynflow {world}"], "a new session is guarded as well"
    assert seen() == before


def test_a_shared_transaction_is_guarded_until_its_end() -> None:
    before = seen()
    with transaction.atomic():
        guard_shared_transaction(world := uuid4())
        assert seen() == ["10s", "1min", f"dynflow {world}"]
    assert seen() == before


def test_whoever_waits_for_a_lock_too_long_is_a_victim() -> None:
    # given a plan that somebody else has locked
    plan = PlanFactory()
    is_locked, may_end = threading.Event(), threading.Event()

    def lock() -> None:
        with transaction.atomic():
            execute("SELECT 1 FROM dynflow_app_executionplan WHERE id = %s FOR UPDATE", [plan.pk])
            is_locked.set()
            may_end.wait(timeout=20)
        connections.close_all()

    somebody = threading.Thread(target=lock)
    somebody.start()
    is_locked.wait(timeout=20)

    # when a guarded session wants it, then it gives up, and can go on
    with guarded_sessions():
        session = open_session()
        with pytest.raises(OperationalError) as raised, transaction.atomic():
            execute("UPDATE dynflow_app_executionplan SET label = 'x' WHERE id = %s", [plan.pk])
        assert is_victim(raised.value)
        assert not is_session_lost(session)
    may_end.set()
    somebody.join(timeout=20)


def test_the_sessions_of_a_world_can_be_ended() -> None:
    # given a session of one world, inside a transaction, and one of another
    world, other = uuid4(), uuid4()
    is_lost: dict[str, bool] = {}
    begun, may_look = threading.Barrier(3), threading.Event()

    def session_of(name: str) -> None:
        with guarded_sessions(world if name == "dead" else other):
            session = open_session()
            begun.wait(timeout=20)
            may_look.wait(timeout=20)
            try:
                execute("SELECT 1")
            except OperationalError:
                is_lost[name] = is_session_lost(session)
            else:
                is_lost[name] = False
        connections.close_all()

    threads = [threading.Thread(target=session_of, args=(name,)) for name in ("dead", "alive")]
    for thread in threads:
        thread.start()
    begun.wait(timeout=20)

    # when those of the first one are ended, then the other one goes on
    assert end_sessions_of(world) == 1
    may_look.set()
    for thread in threads:
        thread.join(timeout=20)
    assert is_lost == {"dead": True, "alive": False}


def test_a_statement_that_the_server_is_at_may_take_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silence, "DEADLINE", 0.2)
    with guarded_sessions():
        session = open_session()
        assert execute("SELECT 1 FROM pg_sleep(1)") == [(1,)]
        assert not is_session_lost(session)


def test_an_answer_that_got_lost_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, database_proxy: Proxy, servers: EmbeddedServers
) -> None:
    # given a session that passes a door
    monkeypatch.setattr(silence, "DEADLINE", 0.3)
    connection.close()
    with pytest.MonkeyPatch.context() as door, guarded_sessions():
        door.setitem(connection.settings_dict, "HOST", str(database_proxy.socket.parent))
        session = open_session()

        # when that passes nothing any more for it, then the statement ends with an error, and the next one is fine
        database_proxy.forget()
        with pytest.raises(OperationalError, match=r"has not answered for 0\.3 s"):
            execute("SELECT 1")
        assert is_session_lost(session)
        connection.close()
        assert execute("SELECT 1") == [(1,)]
    connection.close()


def test_processes_ask_the_kernel_to_find_dead_connections() -> None:
    with guarded_sessions():
        options = connection.get_connection_params()
    assert options["connect_timeout"] == 5
    assert options["tcp_user_timeout"] == 15_000
