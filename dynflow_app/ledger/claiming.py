"""Claim: ready steps become running, owned by one world, with the attempt number raised."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from typing import Any
from uuid import UUID

from django.db.models import OuterRef, Subquery
from django.db.models.functions import Now

from dynflow_app import probes
from dynflow_app.messages import Claimed, Event
from dynflow_app.models import Action, Step, Ticket, World
from dynflow_app.models import Event as EventRow
from dynflow_app.models.base import (
    db_key,
    execute,
    from_db_key,
    is_any_of,
    is_postgresql,
    ledger_connection,
    now_sql,
    seconds_until_sql,
)
from dynflow_app.models.ticket import CLAIMABLE_SQL
from dynflow_app.states import STEP_TRANSITIONS, Cause, StepState, require_legal

_ACTION = Action._meta.db_table
_STEP = Step._meta.db_table
_TICKET = Ticket._meta.db_table
_WORLD = World._meta.db_table


def claim(world_id: UUID, queues: Sequence[str] | None, limit: int, *, worker: str) -> list[Claimed]:
    """Take up to `limit` ready steps of `queues`, the first queue first; in each, by priority, then in fair order.
    None stands for every queue at once.

    Competing claims pass each other, and steps whose rows somebody else has locked. An invalidated world gets nothing.
    """
    taken: list[int] = []
    wanted = Ticket.objects.queues() if queues is None else queues
    for n, queue in enumerate(wanted):
        room = limit - len(taken)
        share = room if queues else -(-room // (len(wanted) - n))  # of all queues at once, none goes first
        if share > 0:
            taken += _take_tickets(world_id, queue, share)
    if not taken:
        return []
    claimed = _load(_begin(taken, worker))
    probes.reached(probes.Probe.STEPS_CLAIMED)
    return claimed


def _take_tickets(world_id: UUID, queue: str, limit: int) -> list[int]:
    connection = ledger_connection()
    world = db_key(world_id, connection)
    lock = "FOR UPDATE OF ticket SKIP LOCKED FOR NO KEY UPDATE OF step SKIP LOCKED" if is_postgresql(connection) else ""
    picked = f"""
        SELECT ticket.step_id FROM {_TICKET} AS ticket JOIN {_STEP} AS step ON step.id = ticket.step_id
        WHERE {CLAIMABLE_SQL} AND ticket.queue = %s ORDER BY ticket.rank, ticket.tag, ticket.step_id LIMIT %s {lock}
    """  # noqa: S608 - names are ours
    ids = [row[0] for row in execute(picked, [queue, limit])]
    if not ids:
        return []
    inside, parameters = is_any_of(connection, "step_id", ids)
    sql = f"""
        UPDATE {_TICKET} SET world_id = %s
        WHERE {inside} AND {CLAIMABLE_SQL}
            AND EXISTS (SELECT 1 FROM {_WORLD} WHERE {_WORLD}.id = %s AND {_WORLD}.state <> 'invalidated')
        RETURNING step_id
    """  # noqa: S608 - names are ours
    return [row[0] for row in execute(sql, [world, *parameters, world])]


def _begin(step_ids: Collection[int], worker: str) -> list[int]:
    """The steps of these tickets, which this transaction has taken, are running from now on."""
    require_legal(STEP_TRANSITIONS, [StepState.READY], StepState.RUNNING)
    connection = ledger_connection()
    inside, parameters = is_any_of(connection, "id", step_ids)
    sql = f"""
        UPDATE {_STEP}
        SET state = 'running', attempt = attempt + 1, worker = %s, started_at = {now_sql(connection)},
            alarm = '', alarm_at = NULL
        WHERE {inside} AND state = 'ready' RETURNING id
    """  # noqa: S608 - names are ours
    return [row[0] for row in execute(sql, [worker, *parameters])]


def _load(step_ids: Collection[int]) -> list[Claimed]:
    connection = ledger_connection()
    condition, parameters = is_any_of(connection, "step.id", step_ids)
    sql = f"""
        SELECT step.id, step.plan_id, step.number, step.phase, step.is_awaited, step.queue,
            action.id, action.number, action.name, action.input, action.consumes, action.output,
            step.cause, step.failures, {seconds_until_sql(connection, "step.deadline_at")}, step.attempt,
            step.slot IS NOT NULL, {companions_sql("step")}
        FROM {_STEP} AS step JOIN {_ACTION} AS action ON action.id = step.action_id
        WHERE {condition} ORDER BY step.id
    """  # noqa: S608 - names are ours
    return claimed_from(execute(sql, parameters))


def companions_sql(step: str) -> str:
    """How many other steps belong to the finalize phase that this one was claimed for; zero for any other step."""
    return f"""CASE WHEN {step}.phase = 'finalize' THEN (
        SELECT COUNT(*) FROM {_STEP} AS other
        WHERE other.plan_id = {step}.plan_id AND other.phase = 'finalize' AND other.state = 'pending'
    ) ELSE 0 END"""  # noqa: S608 - names are ours


def claimed_from(rows: Sequence[Sequence[Any]]) -> list[Claimed]:
    """What the columns of `_load` say of steps that were claimed."""
    events = _events([row[0] for row in rows if row[12] == Cause.EVENT])
    return [
        Claimed(
            step_id=row[0], plan_id=from_db_key(row[1]), number=row[2], phase=row[3], is_awaited=bool(row[4]),
            queue=row[5], action_id=row[6], action_number=row[7], action_name=row[8], input=_parsed(row[9]),
            consumes=_parsed(row[10]), output=_parsed(row[11]), cause=_CAUSES[row[12]], failures=row[13],
            remaining=row[14], attempt=row[15], is_limited=bool(row[16]), companions=row[17],
            event=events.get(row[0]),
        )
        for row in rows
    ]  # fmt: skip


def _parsed(text: str) -> Any:
    """Most payloads are empty, and parsing them takes longer than looking."""
    if text == "{}":
        return {}
    return [] if text == "[]" else json.loads(text)


_CAUSES = {str(cause): cause for cause in Cause}


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
