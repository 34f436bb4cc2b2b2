"""Fills the tables with plans that ended long ago, as years of use would."""

from __future__ import annotations

from typing import Any

from django.db import connection
from django.db.backends.utils import CursorWrapper
from django.db.models import NOT_PROVIDED, Model

from dynflow_app.models import Action, Attempt, ExecutionPlan, HistoryEntry, Limit, OutputChunk, Step

STEPS = 3
"""Of each plan."""
PART = 20_000
"""Plans per transaction."""


def fill(count: int) -> None:
    """Add ``count`` stopped plans, a minute apart, the youngest two months old; each with steps, attempts, some output
    and history. A hundredth ended in error. PostgreSQL only."""
    for first in range(0, count, PART):
        _fill(first, min(count, first + PART))
    with connection.cursor() as cursor:
        for model in (ExecutionPlan, Action, Step, Attempt, OutputChunk, HistoryEntry, Limit):
            cursor.execute(f"VACUUM ANALYZE {model._meta.db_table}")


def _fill(first: int, last: int) -> None:
    action, step = Action._meta.db_table, Step._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(
            """
            CREATE TEMPORARY TABLE past AS SELECT n, gen_random_uuid() AS id,
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
        _copy(cursor, Action, f"past, generate_series(1, {STEPS}) AS number", {
            "plan_id": "id", "number": "number", "name": "'project.bench.actions.NoOp'",
            "input": "jsonb_build_object('host', 'h' || n)", "output": "jsonb_build_object('n', n)",
        })  # fmt: skip
        mine = f"past JOIN {action} AS action ON action.plan_id = past.id"
        _copy(cursor, Step, mine, {
            "plan_id": "action.plan_id", "action_id": "action.id", "number": "action.number", "phase": "'run'",
            "queue": "'default'", "attempt": "1",
            "state": "CASE WHEN n %% 100 = 0 AND action.number = 1 THEN 'error' ELSE 'success' END",
            "error": "CASE WHEN n %% 100 = 0 AND action.number = 1 THEN "
            "jsonb_build_object('class', 'builtins.OSError', 'message', 'host ' || n, 'backtrace', '') END",
            "ready_at": "at", "started_at": "at", "ended_at": "at",
        })  # fmt: skip
        _copy(cursor, Attempt, f"past JOIN {step} AS step ON step.plan_id = past.id", {
            "step_id": "step.id", "number": "1", "worker": "'host:1'", "started_at": "at", "ended_at": "at",
            "ended_as": "CASE WHEN step.state = 'error' THEN 'failed' ELSE 'succeeded' END",
        })  # fmt: skip
        _copy(cursor, OutputChunk, mine, {
            "action_id": "action.id", "attempt": "1", "text": "repeat('line of output ', 10)", "created_at": "at",
        })  # fmt: skip
        _copy(cursor, HistoryEntry, "past WHERE n %% 100 = 0", {
            "plan_id": "id", "verb": "'halt'", "actor": "'ada'", "at": "at",
        })  # fmt: skip
        cursor.execute("DROP TABLE past")


def _copy(cursor: CursorWrapper, model: type[Model], source: str, given: dict[str, str]) -> None:
    """Insert a row for each of ``source``; columns that are not ``given`` get what Django would write."""
    columns = dict(given)
    values: list[Any] = []
    for field in model._meta.concrete_fields:
        if field.column in given or field.null or field.primary_key or field.db_default is not NOT_PROVIDED:
            continue
        columns[field.column] = "%s"
        values.append(field.get_db_prep_save(field.get_default(), connection))
    expressions = ", ".join(columns.values())
    cursor.execute(
        f"INSERT INTO {model._meta.db_table} ({', '.join(columns)}) SELECT {expressions} FROM {source}",  # noqa: S608
        values,
    )
