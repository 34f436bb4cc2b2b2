"""Record: a batch of outcomes becomes fact, and what waited for them becomes ready.

One transaction of about eight statements for any number of outcomes. An outcome whose attempt is no longer the current
one (its world was declared dead, an operator decided otherwise) changes nothing and is reported as refused.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from dynflow_app import clock, probes
from dynflow_app.ledger.releasing import Released, adjust_active, open_gates
from dynflow_app.messages import Outcome
from dynflow_app.models import Action, Attempt, ExecutionPlan, Step
from dynflow_app.models.base import ago_sql, is_any_of, is_postgresql, ledger_connection, values_table
from dynflow_app.states import PlanState, StepState

_PLAN = ExecutionPlan._meta.db_table
_STEP = Step._meta.db_table
_ACTION = Action._meta.db_table
_ATTEMPT = Attempt._meta.db_table


@dataclass(slots=True)
class Recorded:
    """What became of a batch of outcomes."""

    refused: list[Outcome] = field(default_factory=list)
    failed: list[Outcome] = field(default_factory=list)
    ready: Counter[str] = field(default_factory=Counter)
    """Queue to the number of steps that became ready."""
    settled: int = 0
    """How many plans have no active step any more, so that the orchestrator has to decide."""

    def add(self, other: Recorded) -> None:
        """Count another batch in."""
        self.refused += other.refused
        self.failed += other.failed
        self.ready += other.ready
        self.settled += other.settled


def record(outcomes: Sequence[Outcome], *, worker: str) -> Recorded:
    """Write `outcomes` of the process called `worker`; in the caller's transaction."""
    running = _lock_plans({outcome.plan_id for outcome in outcomes})
    queue_of = _write_steps(outcomes)
    accepted = [outcome for outcome in outcomes if outcome.step_id in queue_of]
    _write_attempts([outcome for outcome in accepted if outcome.ended_as is not None], worker)
    write_payloads(accepted)
    released, settled = _release(accepted, running)
    result = Recorded(
        refused=[outcome for outcome in outcomes if outcome.step_id not in queue_of],
        failed=[outcome for outcome in accepted if outcome.state == StepState.ERROR],
        ready=released.by_queue,
        settled=settled,
    )
    for outcome in accepted:
        if outcome.state == StepState.READY:
            result.ready[queue_of[outcome.step_id]] += 1
    probes.reached(probes.Probe.OUTCOMES_WRITTEN)
    return result


def _lock_plans(plan_ids: set[UUID]) -> set[UUID]:
    """Lock the plans; returns those that are running."""
    connection = ledger_connection()
    key = ExecutionPlan._meta.pk
    condition, parameters = is_any_of(connection, "id", [key.get_db_prep_value(one, connection) for one in plan_ids])
    lock = "FOR NO KEY UPDATE" if is_postgresql(connection) else ""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT id, state FROM {_PLAN} WHERE {condition} ORDER BY id {lock}", parameters)  # noqa: S608 - names are ours
        return {key.to_python(row[0]) for row in cursor.fetchall() if row[1] == PlanState.RUNNING}


def _write_steps(outcomes: Sequence[Outcome]) -> dict[int, str]:
    """Returns the accepted steps and their queues."""
    connection = ledger_connection()
    columns = {
        "step_id": "bigint", "attempt": "int", "state": "text", "error": "jsonb",
        "age": "double precision", "seconds": "double precision",
    }  # fmt: skip
    now = clock.monotonic()
    rows = [
        (
            outcome.step_id, outcome.attempt, str(outcome.state), _json(outcome.error),
            now - outcome.ended if outcome.ended else 0.0, outcome.seconds,
        )
        for outcome in outcomes
    ]  # fmt: skip
    table, parameters = values_table(connection, columns, rows)
    sql = f"""
        UPDATE {_STEP}
        SET state = outcome.state, error = outcome.error,
            world_id = NULL,
            started_at = CASE WHEN outcome.seconds > 0
                THEN {ago_sql(connection, "outcome.age + outcome.seconds")} ELSE started_at END,
            ended_at = CASE WHEN outcome.state NOT IN ('ready', 'pending')
                THEN {ago_sql(connection, "outcome.age")} END
        FROM {table} AS outcome
        WHERE {_STEP}.id = outcome.step_id AND {_STEP}.state = 'running' AND {_STEP}.attempt = outcome.attempt
        RETURNING {_STEP}.id, {_STEP}.queue
    """  # noqa: S608 - names are ours
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return {row[0]: row[1] for row in cursor.fetchall()}


def _write_attempts(outcomes: Sequence[Outcome], worker: str) -> None:
    if not outcomes:
        return
    connection = ledger_connection()
    columns = {
        "step_id": "bigint", "number": "int", "ended_as": "text", "error": "jsonb",
        "age": "double precision", "seconds": "double precision",
    }  # fmt: skip
    now = clock.monotonic()
    rows = [
        (
            o.step_id, o.attempt, o.ended_as.value, _json(o.error),
            now - o.ended if o.ended else 0.0, o.seconds,
        )
        for o in outcomes
        if o.ended_as is not None
    ]  # fmt: skip
    table, parameters = values_table(connection, columns, rows)
    started = ago_sql(connection, "ended.age + ended.seconds")
    sql = f"""
        INSERT INTO {_ATTEMPT} (step_id, number, ended_as, worker, error, started_at, ended_at)
        SELECT step_id, number, ended_as, %s, error, {started}, {ago_sql(connection, "ended.age")}
        FROM {table} AS ended
    """  # noqa: S608 - names are ours
    with connection.cursor() as cursor:
        cursor.execute(sql, [worker, *parameters])


def write_payloads(outcomes: Sequence[Outcome]) -> None:
    """Store outputs that changed, and inputs whose references were resolved."""
    rows = [
        (outcome.action_id, outcome.output, outcome.input)
        for outcome in outcomes
        if outcome.output is not None or outcome.input is not None
    ]
    if not rows:
        return
    connection = ledger_connection()
    columns = {"action_id": "bigint", "output": "jsonb", "input": "jsonb"}
    table, parameters = values_table(connection, columns, rows)
    sql = f"""
        UPDATE {_ACTION}
        SET output = COALESCE(made.output, {_ACTION}.output), input = COALESCE(made.input, {_ACTION}.input)
        FROM {table} AS made WHERE {_ACTION}.id = made.action_id
    """  # noqa: S608 - names are ours
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)


def _release(accepted: Sequence[Outcome], running: set[UUID]) -> tuple[Released, int]:
    over = [outcome.step_id for outcome in accepted if outcome.state == StepState.SUCCESS and outcome.is_awaited]
    released = open_gates(over, running) if over else Released()
    delta = released.by_plan.copy()
    for outcome in accepted:
        if outcome.state != StepState.READY:
            delta[outcome.plan_id] -= 1
    return released, adjust_active(delta)


def _json(value: Any) -> str | None:
    return None if value is None else json.dumps(value)
