"""Guards for sessions with the ledger: PostgreSQL itself ends those whose process does not go on, and waits for nobody.

Locks outlive patience: a process that is stopped inside a transaction keeps its locks, and one statement of anybody,
``SELECT ... FOR UPDATE`` in a shell, say, keeps whoever needs that row. So our sessions wait for a lock a second at
most, and the server ends them when they stay idle inside a transaction, or in one for too long. They carry the name of
their world, by which whoever declares it dead finds them.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from uuid import UUID

from django.db import DatabaseError, InterfaceError
from django.db.backends.signals import connection_created

from dynflow_app.ledger import silence
from dynflow_app.models.base import execute, is_postgresql, ledger_alias, ledger_connection

_log = logging.getLogger("dynflow_app.ledger")

LOCK_TIMEOUT = "1s"
IDLE_IN_TRANSACTION_LIMIT = "5s"
LOCK_TIMEOUT_OF_SHARED = "10s"
"""User code shares these transactions, and waits for locks of its own."""
IDLE_LIMIT_OF_SHARED = "60s"
_GUARDS = [
    "lock_timeout", "idle_in_transaction_session_timeout", "application_name", "transaction_timeout",
    "statement_timeout",
]  # fmt: skip


@contextmanager
def guarded_sessions(world_id: UUID | None = None, longest: float | None = None) -> Iterator[None]:
    """Guard the sessions of this thread with the ledger; only for threads that run no user code. No transaction takes
    longer than `longest` seconds, and before PostgreSQL 17 no statement."""
    thread = threading.get_ident()
    key = f"dynflow_app.guarded_sessions.{thread}"

    def guard(connection: Any, **_: Any) -> None:  # a BaseDatabaseWrapper; only that of PostgreSQL knows its version
        if connection.alias == ledger_alias() and is_postgresql(connection) and threading.get_ident() == thread:
            silence.watch(connection.connection)
            with connection.cursor() as cursor:
                _limit(cursor, LOCK_TIMEOUT, IDLE_IN_TRANSACTION_LIMIT, world_id, is_local=False)
                if longest is not None:
                    name = "transaction_timeout" if connection.pg_version >= 170000 else "statement_timeout"
                    cursor.execute("SELECT set_config(%s, %s, false)", [name, f"{longest * 1000:.0f}ms"])

    connection_created.disconnect(dispatch_uid=key)  # a forked child has its parent's
    connection_created.connect(guard, weak=False, dispatch_uid=key)
    connection = ledger_connection()
    if is_postgresql(connection):
        silence.ask_for_patience()
        if connection.connection is not None:
            guard(connection)
    try:
        yield
    finally:
        connection_created.disconnect(dispatch_uid=key)
        if connection.connection is not None and is_postgresql(connection):
            with suppress(DatabaseError, InterfaceError, AttributeError):
                del connection.connection.wait  # that of the class is behind it
                execute("SELECT set_config(name, reset_val, false) FROM pg_settings WHERE name = ANY(%s)", [_GUARDS])


def guard_shared_transaction(world_id: UUID) -> None:
    """Guard the transaction under way, which user code shares; until its end."""
    connection = ledger_connection()
    if is_postgresql(connection):
        with connection.cursor() as cursor:
            _limit(cursor, LOCK_TIMEOUT_OF_SHARED, IDLE_LIMIT_OF_SHARED, world_id, is_local=True)


def end_sessions_of(world_id: UUID) -> int:
    """Have the server end the sessions of a world that was declared dead, so that its locks are in nobody's way;
    returns how many there were. Where the role may not do that, their limits have to do."""
    if not is_postgresql(ledger_connection()):
        return 0
    sql = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s AND pid <> pg_backend_pid()"
    )
    try:
        return len(execute(sql, [_name(world_id)]))
    except DatabaseError as error:
        _log.warning(
            "sessions of a dead world are left to their time limits: %s", str(error).strip(),
            extra={"action": "sessions_left"},
        )  # fmt: skip
        return 0


def _limit(cursor: Any, lock: str, idle: str, world_id: UUID | None, *, is_local: bool) -> None:
    cursor.execute(
        "SELECT set_config('lock_timeout', %s, %s), set_config('idle_in_transaction_session_timeout', %s, %s), "
        "set_config('application_name', %s, %s)",
        [lock, is_local, idle, is_local, _name(world_id), is_local],
    )


def _name(world_id: UUID | None) -> str:
    return "dynflow" if world_id is None else f"dynflow {world_id}"
