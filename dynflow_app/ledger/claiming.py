"""Claim: ready steps become running, owned by one world, with the attempt number raised."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from django.db.models import OuterRef, Subquery
from django.db.models.functions import Now

from dynflow_app import probes
from dynflow_app.messages import Claimed, Event
from dynflow_app.models import Action, ExecutionPlan, Step, World
from dynflow_app.models import Event as EventRow
from dynflow_app.models.base import is_any_of, ledger_connection, now_sql, seconds_until_sql, skip_locked
from dynflow_app.states import Cause

_ACTION = Action._meta.db_table
_STEP = Step._meta.db_table
_WORLD = World._meta.db_table


def claim(world_id: UUID, queues: Sequence[str] | None, limit: int) -> list[Claimed]:
    """Take up to `limit` ready steps of `queues`, the first queue first; in each, by priority, then the oldest.
    None stands for every queue at once.

    Competing claims pass each other. An invalidated world gets nothing.
    """
    attempts: dict[int, int] = {}
    wanted: Sequence[str | None] = queues or [None]
    for queue in wanted:
        if len(attempts) < limit:
            attempts.update(_claim_queue(world_id, queue, limit - len(attempts)))
    if not attempts:
        return []
    claimed = _load(attempts)
    probes.reached(probes.Probe.STEPS_CLAIMED)
    return claimed


def _claim_queue(world_id: UUID, queue: str | None, limit: int) -> list[tuple[int, int]]:
    connection = ledger_connection()
    world = World._meta.pk.get_db_prep_value(world_id, connection)
    # The CTE is materialised: as a plain subquery PostgreSQL may evaluate it twice and lock more than the limit.
    sql = f"""
        WITH picked AS MATERIALIZED (
            SELECT id AS picked_id FROM {_STEP}
            WHERE state = 'ready' AND NOT is_held AND {"TRUE" if queue is None else "queue = %s"}
            ORDER BY priority DESC, id LIMIT %s {skip_locked(connection)}
        )
        UPDATE {_STEP}
        SET state = 'running', attempt = attempt + 1, world_id = %s, started_at = {now_sql(connection)},
            alarm = '', alarm_at = NULL
        FROM picked
        WHERE {_STEP}.id = picked.picked_id AND state = 'ready'
            AND EXISTS (SELECT 1 FROM {_WORLD} WHERE {_WORLD}.id = %s AND {_WORLD}.state <> 'invalidated')
        RETURNING {_STEP}.id, {_STEP}.attempt
    """  # noqa: S608 - names are ours
    with connection.cursor() as cursor:
        cursor.execute(sql, [*([] if queue is None else [queue]), limit, world, world])
        return [(row[0], row[1]) for row in cursor.fetchall()]


def _load(attempts: dict[int, int]) -> list[Claimed]:
    connection = ledger_connection()
    condition, parameters = is_any_of(connection, "step.id", attempts)
    sql = f"""
        SELECT step.id, step.plan_id, step.number, step.phase, step.is_awaited, step.queue,
            action.id, action.number, action.name, action.input, action.consumes, action.output,
            step.cause, step.failures, {seconds_until_sql(connection, "step.deadline_at")},
            CASE WHEN step.phase = 'finalize' THEN (
                SELECT COUNT(*) FROM {_STEP} AS other
                WHERE other.plan_id = step.plan_id AND other.phase = 'finalize' AND other.state = 'pending'
            ) ELSE 0 END
        FROM {_STEP} AS step JOIN {_ACTION} AS action ON action.id = step.action_id
        WHERE {condition} ORDER BY step.id
    """  # noqa: S608 - names are ours
    key = ExecutionPlan._meta.pk
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        rows = cursor.fetchall()
    events = _events([row[0] for row in rows if row[12] == Cause.EVENT])
    return [
        Claimed(
            step_id=row[0], plan_id=key.to_python(row[1]), number=row[2], attempt=attempts[row[0]], phase=row[3],
            is_awaited=bool(row[4]), queue=row[5], action_id=row[6], action_number=row[7], action_name=row[8],
            input=json.loads(row[9]), consumes=json.loads(row[10]), output=json.loads(row[11]),
            cause=Cause(row[12]), failures=row[13], remaining=row[14], companions=row[15], event=events.get(row[0]),
        )
        for row in rows
    ]  # fmt: skip


def _events(step_ids: Sequence[int]) -> dict[int, Event]:
    """The event that each of these steps has to handle: the first that is due."""
    if not step_ids:
        return {}
    due = EventRow.objects.waiting().filter(step_id=OuterRef("pk"), due_at__lte=Now())
    first = Step.objects.filter(id__in=step_ids).values_list(Subquery(due.values("id")[:1]))
    rows = EventRow.objects.filter(id__in=first)
    return {row.step_id: Event(id=row.id, name=row.name, data=row.data) for row in rows}


def outputs_for(steps: Iterable[Claimed]) -> dict[UUID, dict[int, Any]]:
    """Outputs that the inputs of `steps` refer to, by plan and action number. One query, none without references."""
    wanted: dict[UUID, set[int]] = {}
    for step in steps:
        if step.consumes:
            wanted.setdefault(step.plan_id, set()).update(step.consumes)
    if not wanted:
        return {}
    numbers = set().union(*wanted.values())
    rows = Action.objects.filter(plan_id__in=wanted, number__in=numbers, steps__phase="run")
    found: dict[UUID, dict[int, Any]] = {plan_id: {} for plan_id in wanted}
    for plan_id, number, output, state in rows.values_list("plan_id", "number", "output", "steps__state"):
        if number in wanted[plan_id]:
            found[plan_id][number] = output if state == "success" else None
    return found
