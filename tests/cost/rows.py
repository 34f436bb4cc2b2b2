"""What PostgreSQL and Redis say was done to them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from django.db import connection

from dynflow_app import transport
from dynflow_app.transport.rq import RqTransport
from tests.support import wait_until

STEPS = "step"
"""The table whose updates should touch no index."""
_VERBS = ("inserted", "updated", "deleted")
_PREFIX = "dynflow_app_"
_OF_CONNECTIONS = ("info", "hello", "client|", "config|", "select", "ping", "auth")
"""Commands of Redis that go with a connection, or with looking here."""


@dataclass(slots=True)
class Done:
    """Sums since the servers began, or of some stretch of time."""

    rows: Counter[str] = field(default_factory=Counter)
    """Such as ``inserted ticket``."""
    hot: int = 0
    """Updates of steps that touched no index."""
    key_checks: int = 0
    commands: int = 0
    """To Redis."""

    def since(self, before: Done) -> Done:
        """What came in between."""
        return Done(
            self.rows - before.rows,
            self.hot - before.hot,
            self.key_checks - before.key_checks,
            self.commands - before.commands,
        )


def look() -> Done:
    """What was done until now by this process, all of whose other connections are about to end."""
    wait_until(_is_alone, describe="other connections end, and the server counts what they wrote")
    _rows("SELECT pg_stat_force_next_flush()")  # of this connection, as soon as it is idle
    _rows("SELECT pg_stat_clear_snapshot()")
    done = Done(commands=_commands())
    tables = _rows(
        "SELECT substr(relname, %s), n_tup_ins, n_tup_upd, n_tup_del, n_tup_hot_upd FROM pg_stat_user_tables "
        "WHERE starts_with(relname, %s)",
        len(_PREFIX) + 1,
        _PREFIX,
    )
    for table, *numbers, hot in tables:
        done.rows.update({f"{verb} {table}": number for verb, number in zip(_VERBS, numbers, strict=True)})
        done.hot += hot if table == STEPS else 0
    done.key_checks = sum(_checks(table, column, done.rows) for table, column in _foreign_keys())
    return done


def _rows(sql: str, *parameters: object) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters or None)
        return list(cursor.fetchall())


def _is_alone() -> bool:
    """A connection tells the server what it wrote at its end, if not before."""
    others = "datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
    return not _rows(f"SELECT 1 FROM pg_stat_activity WHERE {others} LIMIT 1")  # noqa: S608 - names are ours


def _foreign_keys() -> list[tuple[str, str]]:
    """Tables and columns of foreign keys that PostgreSQL checks, row by row, at commits."""
    return _rows(
        "SELECT substr(relname, %s), attname FROM pg_constraint JOIN pg_class ON pg_class.oid = conrelid "
        "JOIN pg_attribute ON attrelid = conrelid AND attnum = conkey[1] "
        "WHERE contype = 'f' AND starts_with(relname, %s)",
        len(_PREFIX) + 1,
        _PREFIX,
    )


def _checks(table: str, column: str, rows: Counter[str]) -> int:
    """One for each row that was inserted; rows that refer to nothing are not checked."""
    [[empty]] = _rows(f'SELECT count(*) FROM {_PREFIX}{table} WHERE "{column}" IS NULL')  # noqa: S608 - names are ours
    return rows[f"inserted {table}"] - int(empty)


def _commands() -> int:
    """Of everybody who uses this Redis, which is nobody else."""
    bell = transport.get()
    assert isinstance(bell, RqTransport), bell
    stats: dict[str, Any] = bell._client.info("commandstats")
    calls = {name.removeprefix("cmdstat_"): int(about["calls"]) for name, about in stats.items()}
    return sum(number for name, number in calls.items() if not name.startswith(_OF_CONNECTIONS))
