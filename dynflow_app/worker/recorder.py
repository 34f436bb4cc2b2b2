"""Writes what the pump gathered: pieces of log and outcomes, whatever users put into them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from django.db import DatabaseError, transaction

from dynflow_app.ledger.recording import Recorded, record
from dynflow_app.messages import Claimed, EndedAs, Outcome
from dynflow_app.models import Action, OutputChunk, Step
from dynflow_app.models.base import is_outage, is_postgresql, ledger_alias, ledger_connection, values_table
from dynflow_app.payloads.errors import bounded, describe
from dynflow_app.signals import announce, events_dropped, outcome_refused, step_failed
from dynflow_app.states import StepState


@dataclass(slots=True)
class LogPiece:
    """Text that a step logged."""

    step: Claimed
    text: str


def write_log(pieces: Sequence[LogPiece]) -> None:
    """Store one chunk for each step that logged; pieces of actions deleted meanwhile are dropped."""
    texts: dict[tuple[int, int], list[str]] = {}
    for piece in pieces:
        texts.setdefault((piece.step.action_id, piece.step.attempt), []).append(piece.text)
    if not texts:
        return
    known = set(Action.objects.filter(id__in={action for action, _ in texts}).values_list("id", flat=True))
    OutputChunk.objects.bulk_create(
        OutputChunk(action_id=action, attempt=attempt, text=bounded("".join(parts)))
        for (action, attempt), parts in texts.items()
        if action in known
    )


def write_progress(reports: Mapping[int, tuple[int, float]]) -> None:
    """Store how far running steps have come: step to attempt and progress."""
    if not reports:
        return
    connection = ledger_connection()
    rows = [(step_id, attempt, progress) for step_id, (attempt, progress) in reports.items()]
    columns = {"step_id": "bigint", "attempt": "int", "progress": "double precision"}
    table, parameters = values_table(connection, columns, rows)
    step = Step._meta.db_table
    lock = f"FOR NO KEY UPDATE OF {step} SKIP LOCKED" if is_postgresql(connection) else ""
    sql = f"""
        WITH mine AS MATERIALIZED (
            SELECT {step}.id AS mine_id, said.progress AS said FROM {step}
            JOIN {table} AS said ON {step}.id = said.step_id AND {step}.attempt = said.attempt
            WHERE {step}.state = 'running' {lock}
        )
        UPDATE {step} SET progress = mine.said FROM mine WHERE {step}.id = mine.mine_id
    """  # noqa: S608 - names are ours
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)


def record_together(outcomes: Sequence[Outcome], worker: str) -> Recorded:
    """Record `outcomes` in the caller's transaction; none is fine."""
    return record(outcomes, worker=worker) if outcomes else Recorded()


def record_singly(outcomes: Sequence[Outcome], worker: str) -> Recorded:
    """Record `outcomes`, each behind a savepoint; one that the database refuses to store becomes an error.

    Raises DatabaseError if the database is away.
    """
    total = Recorded()
    for outcome in outcomes:
        total.add(_record_alone(outcome, worker))
    return total


def announce_recorded(recorded: Recorded) -> None:
    """Send the signals for what was recorded; after the commit."""
    for outcome in recorded.refused:
        announce(outcome_refused, Step, step_id=outcome.step_id, attempt=outcome.attempt)
    for step_id, number in recorded.dropped.items():
        announce(events_dropped, Step, step_id=step_id, number=number)
    for outcome in recorded.failed:
        message = (outcome.error or {}).get("message", "")
        announce(
            step_failed,
            Step,
            plan_id=outcome.plan_id,
            step_id=outcome.step_id,
            attempt=outcome.attempt,
            message=message,
        )


def _record_alone(outcome: Outcome, worker: str) -> Recorded:
    try:
        with transaction.atomic(using=ledger_alias()):
            return record([outcome], worker=worker)
    except DatabaseError as error:
        if is_outage(error):
            raise
        outcome.state, outcome.ended_as = StepState.ERROR, EndedAs.FAILED
        outcome.output, outcome.input, outcome.error = None, None, describe(error)
        return record([outcome], worker=worker)
