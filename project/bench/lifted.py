"""Tables without their indexes, while very many rows are added."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from django.db import connection

LIFT = """
    UPDATE pg_index SET indisready = false, indisvalid = false
    WHERE indrelid = ANY (SELECT unnest(%s::text[])::regclass)
"""
"""The indexes stay, to the letter, but nobody writes or reads them until they are built again."""


@contextlib.contextmanager
def lifted_indexes(tables: Sequence[str]) -> Iterator[None]:
    """Rows that are added in this block are put into the indexes of ``tables`` at its end, all at once.

    Only for a superuser, and for tables that nobody else changes meanwhile.
    """
    with connection.cursor() as cursor:
        cursor.execute(LIFT, [list(tables)])
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SET maintenance_work_mem = '512MB'")
            for table in tables:
                cursor.execute(f"REINDEX TABLE {table}")
            cursor.execute("RESET maintenance_work_mem")
