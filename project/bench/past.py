"""Fills the tables with plans that ended long ago, as years of use would."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper
from django.db.models import NOT_PROVIDED, Model

from dynflow_app.models import Action, Attempt, ExecutionPlan, HistoryEntry, Limit, OutputChunk, Step
from project.bench.lifted import lifted_indexes

STEPS = 3
"""Of each plan."""
PART = 50_000
"""Plans per transaction."""
LIFTED_FROM = 50_000
"""Plans from which it is faster to make indexes anew than to keep them."""
MODELS = (ExecutionPlan, Action, Step, Attempt, OutputChunk, HistoryEntry)


def fill(count: int, *, first: int = 0) -> None:
    """Add stopped plans from number `first` up to ``count``, a minute apart, the youngest two months old; each with
    steps, output, history, and attempts if this engine keeps those of steps that succeeded at once. A hundredth ended
    in error. PostgreSQL only; much faster for a superuser."""
    tables = [model._meta.db_table for model in MODELS]
    lift = count - first >= LIFTED_FROM and _is_superuser()
    with lifted_indexes(tables) if lift else contextlib.nullcontext():
        for start in range(first, count, PART):
            with _unchecked() as cursor:
                _fill(cursor, start, min(count, start + PART), all_attempts=_keeps_attempts())
    with connection.cursor() as cursor:
        for table in (*tables, Limit._meta.db_table):
            cursor.execute(f"VACUUM (ANALYZE, FREEZE) {table}")
        if _is_superuser():
            cursor.execute("CHECKPOINT")  # not in the middle of what is measured next


@contextlib.contextmanager
def _unchecked() -> Iterator[CursorWrapper]:
    """A transaction that waits for no disk, and in which keys are not checked: these rows fit together."""
    with transaction.atomic(), connection.cursor() as cursor:
        if _is_superuser():
            cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute("SET LOCAL synchronous_commit = off")
        yield cursor


def _is_superuser() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('is_superuser') = 'on'")
        return bool(cursor.fetchone()[0])


def _keeps_attempts() -> bool:
    """Whether this engine writes a row about the attempt of a step that succeeded at once; it has just run some."""
    return Attempt.objects.filter(ended_as="succeeded").exists()


def _fill(cursor: CursorWrapper, first: int, last: int, *, all_attempts: bool) -> None:
    action, step = Action._meta.db_table, Step._meta.db_table
    cursor.execute(
        """
        CREATE TEMPORARY TABLE past ON COMMIT DROP AS SELECT n, gen_random_uuid() AS id,
            now() - interval '60 days' - n * interval '1 minute' AS at
        FROM generate_series(%s::int, %s::int) AS n
        """,
        [first, last - 1],
    )
    _copy(cursor, ExecutionPlan, "past", {
        "id": "id", "created_at": "at", "started_at": "at", "ended_at": "at + interval '30 seconds'",
        "action": "'project.bench.actions.Past' || n %% 10", "label": "'Past ' || n", "state": "'stopped'",
        "result": "CASE WHEN n %% 100 = 0 THEN 'error' ELSE 'success' END",
    })  # fmt: skip
    cursor.execute("CREATE TEMPORARY TABLE acted (LIKE past, action_id bigint, number integer) ON COMMIT DROP")
    cursor.execute(
        f"""
        INSERT INTO acted SELECT n, id, at, nextval(pg_get_serial_sequence('{action}', 'id')), number
        FROM past, generate_series(1, {STEPS}) AS number
        """  # noqa: S608 - names are ours
    )
    _copy(cursor, Action, "acted", {
        "id": "action_id", "plan_id": "id", "number": "number", "name": "'project.bench.actions.NoOp'",
        "input": "jsonb_build_object('host', 'h' || n)", "output": "jsonb_build_object('n', n)",
    })  # fmt: skip
    failed = "n %% 100 = 0 AND number = 1"
    cursor.execute("CREATE TEMPORARY TABLE stepped (LIKE acted, step_id bigint) ON COMMIT DROP")
    cursor.execute(
        f"INSERT INTO stepped SELECT acted.*, nextval(pg_get_serial_sequence('{step}', 'id')) FROM acted"  # noqa: S608
    )
    _copy(cursor, Step, "stepped", {
        "id": "step_id", "plan_id": "id", "action_id": "action_id", "number": "number", "phase": "'run'",
        "queue": "'default'", "attempt": "1",
        "state": f"CASE WHEN {failed} THEN 'error' ELSE 'success' END",
        "error": f"CASE WHEN {failed} THEN "
        "jsonb_build_object('class', 'builtins.OSError', 'message', 'host ' || n, 'backtrace', '') END",
        "ready_at": "at", "started_at": "at", "ended_at": "at",
    })  # fmt: skip
    _copy(cursor, Attempt, "stepped" if all_attempts else f"stepped WHERE {failed}", {
        "step_id": "step_id", "number": "1", "worker": "'host:1'", "started_at": "at", "ended_at": "at",
        "ended_as": f"CASE WHEN {failed} THEN 'failed' ELSE 'succeeded' END",
    })  # fmt: skip
    _copy(cursor, OutputChunk, "acted", {
        "action_id": "action_id", "attempt": "1", "text": "repeat('line of output ', 10)", "created_at": "at",
    })  # fmt: skip
    _copy(cursor, HistoryEntry, "past WHERE n %% 100 = 0", {
        "plan_id": "id", "verb": "'halt'", "actor": "'ada'", "at": "at",
    })  # fmt: skip


def _copy(cursor: CursorWrapper, model: type[Model], source: str, given: dict[str, str]) -> None:
    """Insert a row for each of ``source``; columns that are not ``given`` get what Django would write."""
    known = {field.column for field in model._meta.concrete_fields}
    columns = {column: value for column, value in given.items() if column in known}
    values: list[Any] = []
    for field in model._meta.concrete_fields:
        if field.column in columns or field.null or field.primary_key or field.db_default is not NOT_PROVIDED:
            continue
        columns[field.column] = "%s"
        values.append(field.get_db_prep_save(field.get_default(), connection))
    expressions = ", ".join(columns.values())
    cursor.execute(
        f"INSERT INTO {model._meta.db_table} ({', '.join(columns)}) SELECT {expressions} FROM {source}",  # noqa: S608
        values,
    )
