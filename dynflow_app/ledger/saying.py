"""What steps say while they run: pieces of log, and how far they have come."""

from __future__ import annotations

from collections.abc import Iterable

from dynflow_app.models import Action, OutputChunk, Step
from dynflow_app.models.base import execute, is_postgresql, ledger_connection, values_table
from dynflow_app.payloads.errors import storable

CHUNK = 64 * 1024

_STEP = Step._meta.db_table


def write_log(pieces: Iterable[tuple[int, int, str]]) -> None:
    """Store these pieces in the order in which they came, those of an action and attempt together, in chunks of at most
    ``CHUNK`` characters; those of actions deleted meanwhile are dropped."""
    texts: dict[tuple[int, int], list[str]] = {}
    for action_id, attempt, text in pieces:
        texts.setdefault((action_id, attempt), []).append(text)
    if not texts:
        return
    known = set(Action.objects.filter(id__in={action for action, _ in texts}).values_list("id", flat=True))
    OutputChunk.objects.bulk_create(
        OutputChunk(action_id=action, attempt=attempt, text=text[start : start + CHUNK])
        for (action, attempt), text in ((key, storable("".join(parts))) for key, parts in texts.items())
        if action in known
        for start in range(0, len(text), CHUNK)
    )


def write_progress(reports: Iterable[tuple[int, int, float]]) -> None:
    """Store how far running steps have come: step, attempt and progress. Steps that others have locked are left out."""
    rows = list(reports)
    if not rows:
        return
    connection = ledger_connection()
    columns = {"step_id": "bigint", "attempt": "int", "progress": "double precision"}
    table, parameters = values_table(connection, columns, rows)
    lock = f"FOR NO KEY UPDATE OF {_STEP} SKIP LOCKED" if is_postgresql(connection) else ""
    sql = f"""
        WITH mine AS MATERIALIZED (
            SELECT {_STEP}.id AS mine_id, said.progress AS said FROM {_STEP}
            JOIN {table} AS said ON {_STEP}.id = said.step_id AND {_STEP}.attempt = said.attempt
            WHERE {_STEP}.state = 'running' {lock}
        )
        UPDATE {_STEP} SET progress = mine.said FROM mine WHERE {_STEP}.id = mine.mine_id
    """  # noqa: S608 - names are ours
    execute(sql, parameters)
