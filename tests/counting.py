"""Counts what is asked of the database by code that runs in threads of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created


@contextmanager
def statements_of_threads() -> Iterator[list[str]]:
    """The statements of all connections that are made meanwhile, so not those of the test itself."""
    found: list[str] = []

    def note(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        found.append(sql)
        return execute(sql, *rest)

    def listen(connection: BaseDatabaseWrapper, **_: Any) -> None:
        connection.execute_wrappers.append(note)

    connection_created.connect(listen)
    try:
        yield found
    finally:
        connection_created.disconnect(listen)
