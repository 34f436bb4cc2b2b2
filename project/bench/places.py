"""Where the benchmark runs: a database of its own, on embedded servers or on those of the environment."""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
from psycopg import sql

from project.servers import EmbeddedServers

SETTINGS = "project.settings.base"
ORCHESTRATOR_SETTINGS = "project.settings.orchestrator"
COUNTER = "pg_stat_statements"


@contextlib.contextmanager
def fresh_database() -> Iterator[dict[str, str]]:
    """Yield the environment of processes that measure; afterwards its database is gone."""
    with contextlib.ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dynflow-bench-")))
        environ = {**os.environ, "DYNFLOW_HOME": str(home), "DJANGO_SETTINGS_MODULE": SETTINGS}
        environ.setdefault("SECRET_KEY", secrets.token_urlsafe(50))
        environ.pop("DYNFLOW_DEBUG", None)  # Django would keep every statement in memory
        environ["DYNFLOW_EXECUTOR"] = "rq"
        if not (environ.get("POSTGRES_HOST") and environ.get("REDIS_URL")):
            environ.update(stack.enter_context(_embedded(home / "servers")))
        stack.enter_context(_database(environ))
        yield environ


@contextlib.contextmanager
def _embedded(home: Path) -> Iterator[dict[str, str]]:
    """Servers in ``home``, restarted once so that PostgreSQL counts statements."""
    with EmbeddedServers(home, temporary=True) as servers:
        with _connect(servers.environ, servers.environ["POSTGRES_DB"]) as connection:
            connection.execute(f"ALTER SYSTEM SET shared_preload_libraries = '{COUNTER}'")
        servers.stop_postgres()
        servers.start_postgres()
        yield servers.environ


@contextlib.contextmanager
def _database(environ: dict[str, str]) -> Iterator[None]:
    """Create a database, name it in ``environ``, and drop it at the end."""
    maintenance = environ.get("POSTGRES_DB") or "postgres"
    name = f"dynflow_bench_{secrets.token_hex(4)}"
    with _connect(environ, maintenance) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    environ["POSTGRES_DB"] = name
    try:
        with _connect(environ, name) as connection, contextlib.suppress(psycopg.Error):
            connection.execute(f"CREATE EXTENSION {COUNTER}")
        yield
    finally:
        with _connect(environ, maintenance) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _connect(environ: dict[str, str], database: str) -> psycopg.Connection:
    return psycopg.connect(
        host=environ["POSTGRES_HOST"],
        port=environ.get("POSTGRES_PORT") or None,
        user=environ.get("POSTGRES_USER") or "postgres",
        password=environ.get("POSTGRES_PASSWORD") or None,
        dbname=database,
        autocommit=True,
    )
