"""What all models share: time-ordered keys, the ledger's database alias, guarded transitions, portable SQL.

The few statements of the hot path are written once for PostgreSQL and SQLite: a batch of values goes in as one
derived table (`values_table`), so a statement's text does not grow with the batch.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, TypeVar

from django.apps import apps
from django.db import DatabaseError, InterfaceError, OperationalError, connections, models, router
from django.db.backends.base.base import BaseDatabaseWrapper

from dynflow_app.exceptions import SchemaOutdatedError
from dynflow_app.states import Transitions, require_legal

M = TypeVar("M", bound=models.Model)


def uuid7() -> uuid.UUID:
    """A time-ordered UUID (RFC 9562, version 7), so that newer rows sort after older ones."""
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds << 80) | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF000 << 64) | (0x7000 << 64)
    value = value & ~(0xC000 << 48) | (0x8000 << 48)
    return uuid.UUID(int=value)


class LedgerQuerySet(models.QuerySet[M]):
    """Queryset whose state column changes by named verbs only, which are built on `_move`."""

    transitions: ClassVar[Transitions] = {}

    def _move(self, frm: Collection[str], to: str, **fields: Any) -> int:
        """Move rows that are in one of the states `frm` to `to`, with further `fields`; returns how many moved.

        The number is the verdict: a row that another process moved first is not counted. Raises
        `IllegalTransitionError` for a change that the table of the model does not have.
        """
        require_legal(self.transitions, frm, to)
        return self.filter(state__in=frm).update(state=to, **fields)


class LedgerManager(models.Manager[M]):
    """Manager that always uses the primary database: a decision based on a stale replica would be wrong."""

    def get_queryset(self) -> models.QuerySet[M]:
        return super().get_queryset().using(self._db or router.db_for_write(self.model))


def ledger_alias() -> str:
    """Alias of the database that holds the ledger, as the project's routers say."""
    return router.db_for_write(apps.get_model("dynflow_app", "ExecutionPlan"))


@contextmanager
def explained_schema_errors() -> Iterator[None]:
    """Raise `SchemaOutdatedError` instead of the database's own words if our tables are not there."""
    try:
        yield
    except DatabaseError as error:
        if any(words in str(error) for words in ("does not exist", "no such table", "has no column")) and (
            "dynflow_app_" in str(error)
        ):
            raise SchemaOutdatedError from error
        raise


def is_outage(error: BaseException) -> bool:
    """Whether `error` says that the database is away, or cannot be written to now, rather than that a statement is
    wrong: then the same transaction may be tried again later."""
    if isinstance(error, (OperationalError, InterfaceError)):
        return True
    return isinstance(error, DatabaseError) and getattr(error.__cause__, "sqlstate", None) in _AWAY


_AWAY = ("25P03", "25P04", "25006")
"""Session ended for idling in a transaction or for a transaction's length; server is read-only after a fail-over."""


def is_transient(error: BaseException, session: Any = None) -> bool:
    """Whether `error` says nothing about the statements: the same transaction may be tried again at once.

    The `session` with the ledger was lost (default: that of the transaction under way), or the server has chosen this
    transaction as a victim. An outage of another database, which user code may have met, is none of that.
    """
    if not is_outage(error):
        return False
    is_busy = getattr(error.__cause__, "sqlite_errorname", "").startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))
    return is_victim(error) or is_session_lost(session) or is_busy


def is_victim(error: BaseException) -> bool:
    """Whether the server ended the transaction for the sake of others, whose locks it needed."""
    return isinstance(error, DatabaseError) and getattr(error.__cause__, "sqlstate", None) in _VICTIM


_VICTIM = ("40P01", "40001", "55P03")
"""Deadlock; serialization failure; a lock that somebody else has for too long."""


def open_session() -> Any:
    """This thread's session with the ledger, connected if need be. Raises what connecting raises."""
    connection = ledger_connection()
    connection.ensure_connection()
    return connection.connection


def is_session_lost(session: Any = None) -> bool:
    """Whether a session of this thread with the ledger (default: the present one) is broken, or was replaced because it
    was: Django connects anew at the end of a transaction that was lost."""
    connection = ledger_connection()
    if session is None or session is connection.connection:
        return connection.connection is None or (is_postgresql(connection) and connection.connection.closed)
    return True


def ledger_connection() -> BaseDatabaseWrapper:
    """This thread's connection to the ledger."""
    return connections[ledger_alias()]


def is_postgresql(connection: BaseDatabaseWrapper) -> bool:
    """Whether row locks and arrays are there; otherwise it is SQLite, which has one writer at a time."""
    return connection.vendor == "postgresql"


def skip_locked(connection: BaseDatabaseWrapper) -> str:
    """The clause that makes competing claims pass each other."""
    return "FOR UPDATE SKIP LOCKED" if is_postgresql(connection) else ""


def now_sql(connection: BaseDatabaseWrapper) -> str:
    """The database's own clock."""
    return "STATEMENT_TIMESTAMP()" if is_postgresql(connection) else _SQLITE_NOW


def ago_sql(connection: BaseDatabaseWrapper, seconds: str) -> str:
    """The database's clock minus `seconds`, an expression."""
    return in_sql(connection, f"-({seconds})")


def in_sql(connection: BaseDatabaseWrapper, seconds: str) -> str:
    """The database's clock plus `seconds`, an expression."""
    if is_postgresql(connection):
        return f"(STATEMENT_TIMESTAMP() + make_interval(secs => {seconds}))"
    return f"STRFTIME('%%Y-%%m-%%d %%H:%%M:%%f', 'NOW', printf('%%+.6f seconds', {seconds}))"


def seconds_until_sql(connection: BaseDatabaseWrapper, column: str) -> str:
    """How many seconds `column` lies in the future, by the database's clock; negative in the past."""
    if is_postgresql(connection):
        return f"EXTRACT(EPOCH FROM {column} - STATEMENT_TIMESTAMP())::double precision"
    return f"((JULIANDAY({column}) - JULIANDAY('NOW')) * 86400.0)"


_SQLITE_NOW = "STRFTIME('%%Y-%%m-%%d %%H:%%M:%%f', 'NOW')"


def values_table(
    connection: BaseDatabaseWrapper, columns: dict[str, str], rows: Iterable[Sequence[Any]]
) -> tuple[str, list[Any]]:
    """A derived table with `columns` (name to PostgreSQL type) for a FROM clause, and its parameters."""
    by_column = list(zip(*rows, strict=True)) or [()] * len(columns)
    if is_postgresql(connection):
        arrays = ", ".join(f"%s::{_array_type(kind)}[]" for kind in columns.values())
        names = ", ".join(f"{name}::jsonb AS {name}" if kind == "jsonb" else name for name, kind in columns.items())
        table = f"(SELECT {names} FROM unnest({arrays}) AS raw({', '.join(columns)}))"  # noqa: S608 - names are ours
        return table, [list(column) for column in by_column]
    names = ", ".join(f"json_extract(value, '$[{n}]') AS {name}" for n, name in enumerate(columns))
    return f"(SELECT {names} FROM json_each(%s))", [json.dumps(list(zip(*by_column, strict=True)))]  # noqa: S608


def execute(sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """Run one statement on this thread's connection to the ledger; returns its rows, none if it has none to return."""
    with ledger_connection().cursor() as cursor:
        cursor.execute(sql, list(parameters))
        return cursor.fetchall() if cursor.description else []


def greatest(connection: BaseDatabaseWrapper) -> str:
    """The function that picks the largest of its arguments."""
    return "GREATEST" if is_postgresql(connection) else "MAX"


def db_key(key: Any, connection: BaseDatabaseWrapper) -> Any:
    """A UUID as the database has it."""
    return _UUID.get_db_prep_value(key, connection)


def from_db_key(key: Any) -> uuid.UUID:
    """A UUID as Python has it."""
    return key if isinstance(key, uuid.UUID) else uuid.UUID(str(key))


_UUID: models.UUIDField[Any, Any] = models.UUIDField()


def is_any_of(connection: BaseDatabaseWrapper, column: str, values: Collection[Any]) -> tuple[str, list[Any]]:
    """A condition that `column` is one of `values` (numbers, or keys as the database has them), and its parameters."""
    if is_postgresql(connection):
        return f"{column} = ANY(%s)", [list(values)]
    return f"{column} IN (SELECT value FROM json_each(%s))", [json.dumps(list(values))]  # noqa: S608 - names are ours


def _array_type(kind: str) -> str:
    return "text" if kind == "jsonb" else kind
