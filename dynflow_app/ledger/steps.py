"""Verbs of steps that have a ticket, or get one: to be ready, to be taken back, to fail, to be cancelled.

Each changes all columns that belong to it, for any number of steps, with two or three statements. The plans must be
locked, except where a verb says otherwise.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID

from django.db.models.functions import Now

from dynflow_app.ledger.effects import BecameReady
from dynflow_app.models import Step, Ticket
from dynflow_app.models.base import execute, from_db_key, in_sql, is_any_of, ledger_connection, now_sql
from dynflow_app.models.step import NO_WAIT, StepQuerySet
from dynflow_app.states import STEP_TRANSITIONS, Cause, StepState, require_legal

_STEP = Step._meta.db_table


def ready_sql(frm: StepState, cause: Cause | str | None = None) -> str:
    """The assignments with which steps in the state `frm` become ready, everything included. `cause` is what their
    next invocation answers, or an expression for it; None leaves that as it is."""
    require_legal(STEP_TRANSITIONS, [frm], StepState.READY)
    connection = ledger_connection()
    answers = "" if cause is None else f"cause = {repr(str(cause)) if isinstance(cause, Cause) else cause},"
    return f"""
        state = '{StepState.READY}', ready_at = {now_sql(connection)}, {answers}
        alarm = CASE WHEN start_timeout IS NULL THEN '' ELSE 'start' END,
        alarm_at = CASE WHEN start_timeout IS NOT NULL THEN {in_sql(connection, "start_timeout")} END
    """


def make_ready(
    condition: str, parameters: Sequence[Any], *, frm: StepState, cause: Cause | str | None = None
) -> list[BecameReady]:
    """Let the steps for which `condition` holds, in the state `frm`, wait for a worker. Needs no locked plan."""
    sql = f"""
        UPDATE {_STEP} SET {ready_sql(frm, cause)}
        WHERE {condition} AND state = '{frm}'
        RETURNING id, plan_id, queue, slot, limit_key, start_timeout
    """  # noqa: S608 - names are ours
    # Plain columns: SQLite before 3.41 takes NULL for something else in expressions of RETURNING.
    made = [
        BecameReady(step_id, from_db_key(plan_id), queue, limit_key if slot is None else None, timeout is not None)
        for step_id, plan_id, queue, slot, limit_key, timeout in execute(sql, parameters)
    ]
    Ticket.objects.draw([row.step_id for row in made])
    return made


def make_these_ready(
    step_ids: Collection[int], *, frm: StepState, cause: Cause | str | None = None
) -> list[BecameReady]:
    """As `make_ready`, for those of these steps that are in the state `frm`."""
    if not step_ids:
        return []
    return make_ready(*is_any_of(ledger_connection(), "id", step_ids), frm=frm, cause=cause)


def take_back(steps: StepQuerySet) -> list[UUID]:
    """Ready steps that nobody has claimed wait again as before; returns the plan of each."""
    return [step.plan_id for step in _withdraw(steps, StepState.PENDING, ready_at=None, **NO_WAIT)]


def fail(steps: StepQuerySet, error: dict[str, Any]) -> list[Step]:
    """Ready steps that nobody has claimed end with `error`; returns them as they were."""
    return _withdraw(steps, StepState.ERROR, error=error, ended_at=Now(), **NO_WAIT)


def cancel(steps: StepQuerySet) -> list[UUID]:
    """Steps that are ready, suspended or about to be skipped are cancelled; returns the plan of each.

    Those that are suspended come first: an alarm may make them ready until they are locked.
    """
    waiting = steps.filter(state__in=(StepState.SUSPENDED, StepState.SKIPPING)).order_by("pk")
    locked = dict(waiting.select_for_update(no_key=True, of=("self",)).values_list("pk", "plan_id"))
    Step.objects.filter(pk__in=locked).cancel_waiting()
    ready = _withdraw(steps, StepState.CANCELLED, ended_at=Now(), **NO_WAIT)
    return [*locked.values(), *(step.plan_id for step in ready)]


def forget(steps: StepQuerySet, error: dict[str, Any]) -> list[Step]:
    """Running steps end with `error`, whatever their workers will say; returns them as they were."""
    running = list(steps.filter(state=StepState.RUNNING))
    ids = [step.pk for step in running]
    require_legal(STEP_TRANSITIONS, [StepState.RUNNING], StepState.ERROR)
    Step.objects.filter(pk__in=ids).update(state=StepState.ERROR, error=error, ended_at=Now(), **NO_WAIT)
    Ticket.objects.hand_in(ids)
    return running


def _withdraw(steps: StepQuerySet, to: StepState, **fields: Any) -> list[Step]:
    """Who takes the ticket has the step: claims come either before that, or not at all."""
    require_legal(STEP_TRANSITIONS, [StepState.READY], to)
    ids = Ticket.objects.withdraw(list(steps.filter(state=StepState.READY).values_list("pk", flat=True)))
    if not ids:
        return []
    taken = Step.objects.filter(pk__in=ids, state=StepState.READY)
    found = list(taken.only("plan", "action", "attempt", "phase"))
    taken.update(state=to, **fields)
    return found
