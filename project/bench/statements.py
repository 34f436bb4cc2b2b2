"""Counting SQL statements, if PostgreSQL can."""

from __future__ import annotations

from typing import Any, NamedTuple

from django.db import ProgrammingError, connection, transaction

from project.bench.places import COUNTER

HERE = "(SELECT oid FROM pg_database WHERE datname = current_database())"
CHECK = "SELECT % FROM ONLY % FOR KEY SHARE OF x"
"""A foreign key that PostgreSQL checks at the commit, once per row; no process of ours sent this."""


class Counted(NamedTuple):
    """Statements of some stretch of time."""

    sent: int
    """By processes."""
    bounds: int
    """Those among them that only bound a transaction or a savepoint."""
    checks: int
    """Foreign keys checked by PostgreSQL at commits."""


def by_server() -> bool:
    """Whether PostgreSQL counts the statements of this database."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"SELECT 1 FROM {COUNTER} LIMIT 1")  # noqa: S608 - names are ours
    except Exception as error:  # not created, or not preloaded
        if isinstance(error, ProgrammingError) or "preload" in str(error):
            return False
        raise
    return True


class Counter:
    """Statements of everybody in this database since the last ``reset``."""

    def reset(self) -> None:
        """Begin at zero."""
        _rows(f"SELECT 1 FROM (SELECT {COUNTER}_reset(0, {HERE}, 0)) AS done")  # noqa: S608 - names are ours

    def total(self) -> Counted:
        """What was counted."""
        sql = f"""
            SELECT sum(calls) FILTER (WHERE query NOT LIKE '{CHECK}'),
                sum(calls) FILTER (WHERE query ~* '^(begin|commit|rollback|savepoint|release)'),
                sum(calls) FILTER (WHERE query LIKE '{CHECK}')
            FROM {COUNTER} WHERE dbid = {HERE} AND query NOT LIKE '%{COUNTER}%'
        """  # noqa: S608 - names are ours
        return Counted(*(int(number or 0) for number in _rows(sql)[0]))

    def dearest(self, limit: int = 20) -> list[dict[str, Any]]:
        """The statements that took the server the most time."""
        sql = f"""
            SELECT calls, round(total_exec_time::numeric, 1)::float8, left(regexp_replace(query, '\\s+', ' ', 'g'), 200)
            FROM {COUNTER} WHERE dbid = {HERE} AND query NOT LIKE '%{COUNTER}%'
            ORDER BY total_exec_time DESC LIMIT {limit}
        """  # noqa: S608 - names are ours
        return [{"calls": calls, "ms": ms, "query": query} for calls, ms, query in _rows(sql)]


def _rows(sql: str) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall())
