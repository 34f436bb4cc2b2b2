"""Where the tables of the limits are: a schema per design, in the database of the benchmark."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import psycopg
from django.db import connection
from psycopg import sql

from project.bench.figures import median
from project.bench.limits.design import Design


@contextlib.contextmanager
def fresh(design: Design) -> Iterator[psycopg.Connection[Any]]:
    """A connection of its own, whose statements find the empty tables of ``design``; afterwards they are gone."""
    with connected() as direct:
        schema = sql.Identifier(design.schema)
        direct.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(schema))
        direct.execute(sql.SQL("CREATE SCHEMA {}").format(schema))
        direct.execute(sql.SQL("SET search_path = {}").format(schema))
        with direct.transaction():
            direct.execute(design.tables, prepare=False)  # several statements
        try:
            yield direct
        finally:
            direct.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(schema))


def connected() -> psycopg.Connection[Any]:
    """A connection without Django, which adds its own work to each statement. It prepares what it sends."""
    parameters = connection.get_connection_params()
    wanted = {key: parameters[key] for key in ("host", "port", "user", "password", "dbname") if parameters.get(key)}
    direct: psycopg.Connection[Any] = psycopg.connect(**wanted, autocommit=True, options="-c client_min_messages=error")
    direct.prepare_threshold = 0
    return direct


def commit(count: int = 200) -> float:
    """Median milliseconds of a transaction that changes one row."""
    times = []
    with connected() as direct:
        direct.execute("CREATE TABLE commits (number integer)")
        direct.execute("INSERT INTO commits VALUES (0)")
        try:
            for _ in range(count):
                began = time.perf_counter()
                direct.execute("UPDATE commits SET number = number + 1")
                times.append((time.perf_counter() - began) * 1000)
        finally:
            direct.execute("DROP TABLE commits")
    return median(times)
