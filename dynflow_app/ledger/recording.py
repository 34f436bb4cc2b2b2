"""Record: a batch of outcomes becomes fact, and what waited for them becomes ready.

One transaction of about eight statements for any number of outcomes. An outcome whose attempt is no longer the current
one (its world was declared dead, an operator decided otherwise) changes nothing and is reported as refused.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from dynflow_app import clock, probes
from dynflow_app.ledger import events, skipping, sub_plans
from dynflow_app.ledger.failing import failing_fast
from dynflow_app.ledger.limiting import admit
from dynflow_app.ledger.locking import unlock
from dynflow_app.ledger.releasing import count_active, open_gates, release_finalize, tell_settled
from dynflow_app.ledger.waiting import stop_instead, write_waits
from dynflow_app.messages import Outcome
from dynflow_app.models import Action, Attempt, ExecutionPlan, Step
from dynflow_app.models.base import ago_sql, is_any_of, is_postgresql, ledger_connection, values_table
from dynflow_app.states import (
    ACTIVE_STEP_STATES,
    DEAF_ALARMS,
    FLOW_PHASES,
    Phase,
    PlanState,
    Rescue,
    StepState,
    StopRequest,
)

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
    """How many plans need the orchestrator: they have no active step any more, or release locks."""
    dropped: Counter[int] = field(default_factory=Counter)
    """Ended steps to the number of events that nobody will handle."""

    def add(self, other: Recorded) -> None:
        """Count another batch in."""
        self.refused += other.refused
        self.failed += other.failed
        self.ready += other.ready
        self.settled += other.settled
        self.dropped += other.dropped


@dataclass(frozen=True, slots=True)
class _Accepted:
    """What the ledger knew about a step whose outcome it accepted."""

    queue: str
    stop_request: str
    is_addressed: bool
    limit_key: str | None


def record(outcomes: Sequence[Outcome], *, worker: str) -> Recorded:
    """Write `outcomes` of the process called `worker`; in the caller's transaction."""
    running, fail_fast, finalizing = _lock_plans({outcome.plan_id for outcome in outcomes})
    parents = [outcome.step_id for outcome in outcomes if outcome.wakes_below]
    if parents:
        sub_plans.lock(parents)
    known = _write_steps(outcomes)
    accepted = [outcome for outcome in outcomes if outcome.step_id in known]
    _write_attempts([outcome for outcome in accepted if outcome.ended_as is not None], worker)
    write_payloads(accepted)
    result = Recorded(
        refused=[outcome for outcome in outcomes if outcome.step_id not in known],
        failed=[outcome for outcome in accepted if outcome.state == StepState.ERROR],
    )
    _follow_up(accepted, known, result)
    for outcome in accepted:
        if outcome.state == StepState.READY:
            result.ready[known[outcome.step_id].queue] += 1
    delta: Counter[UUID] = Counter()
    limits: set[str] = set()
    if fail_fast:
        failing, withdrawn, limits = failing_fast(fail_fast)
        running -= failing
        delta.subtract(withdrawn)
    _release(accepted, running, known, result, delta, limits)
    _settle(count_active(delta), finalizing & {o.plan_id for o in accepted if o.phase in FLOW_PHASES}, result)
    if limits:  # once, and last: their locks are taken in the order of their keys, after those of plans and steps
        result.ready += admit(limits)
    probes.reached(probes.Probe.OUTCOMES_WRITTEN)
    return result


def _follow_up(accepted: Sequence[Outcome], known: Mapping[int, _Accepted], result: Recorded) -> None:
    """What only some outcomes need, and most batches not at all: timers, events, wishes to end."""
    waiting = [outcome for outcome in accepted if outcome.state == StepState.SUSPENDED]
    if waiting:
        write_waits(waiting)
    answered = [outcome for outcome in accepted if outcome.event_id and outcome.state != StepState.READY]
    if answered:  # what will be tried again will have the same event again
        events.note_handled([outcome for outcome in answered if outcome.alarm not in DEAF_ALARMS])
    again = [outcome for outcome in accepted if outcome.state in (StepState.SUSPENDED, StepState.READY)]
    unwanted = [
        outcome
        for outcome in again
        if known[outcome.step_id].stop_request != StopRequest.NONE and outcome.wakes_below is None
    ]
    if unwanted:
        stop_instead(unwanted, {each.step_id: known[each.step_id].stop_request for each in unwanted})
    parents = {outcome.step_id: outcome.wakes_below for outcome in waiting if outcome.wakes_below}
    if parents:
        result.ready += sub_plans.wait(parents)
    sending = [outcome for outcome in waiting if outcome.sent]
    if sending:
        events.store_sent(sending)
    unlocking = [outcome for outcome in accepted if outcome.unlocked]
    if unlocking:
        result.settled += unlock(unlocking)
    addressed = {o.step_id for o in accepted if known[o.step_id].is_addressed} | {o.step_id for o in sending}
    if addressed:
        suspended = {outcome.step_id for outcome in waiting if outcome.state == StepState.SUSPENDED}
        result.ready += events.deliver(addressed & suspended)
        active = {outcome.step_id for outcome in accepted if outcome.state in ACTIVE_STEP_STATES}
        result.dropped += events.drop(addressed - active)


def _lock_plans(plan_ids: set[UUID]) -> tuple[set[UUID], set[UUID], set[UUID]]:
    """Lock the plans; returns those that are running, and those of them that fail fast, or have finalize steps."""
    connection = ledger_connection()
    key = ExecutionPlan._meta.pk
    condition, parameters = is_any_of(connection, "id", [key.get_db_prep_value(one, connection) for one in plan_ids])
    lock = "FOR NO KEY UPDATE" if is_postgresql(connection) else ""
    with connection.cursor() as cursor:
        sql = f"SELECT id, state, fail_fast, has_finalize FROM {_PLAN} WHERE {condition} ORDER BY id {lock}"  # noqa: S608 - names are ours
        cursor.execute(sql, parameters)
        rows = [(key.to_python(row[0]), row[2], row[3]) for row in cursor.fetchall() if row[1] == PlanState.RUNNING]
    return (
        {plan_id for plan_id, _, _ in rows},
        {plan_id for plan_id, fail_fast, _ in rows if fail_fast},
        {plan_id for plan_id, _, has_finalize in rows if has_finalize},
    )


def _write_steps(outcomes: Sequence[Outcome]) -> dict[int, _Accepted]:
    """Returns the accepted steps."""
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
        SET state = outcome.state, error = outcome.error, world_id = NULL, ran_for = ran_for + outcome.seconds,
            cause = CASE WHEN outcome.state = 'ready' THEN cause ELSE 'start' END,
            deadline_at = CASE WHEN outcome.state = 'ready' THEN deadline_at END,
            stop_request = CASE WHEN outcome.state = 'pending' THEN '' ELSE stop_request END,
            started_at = CASE WHEN outcome.seconds > 0
                THEN {ago_sql(connection, "outcome.age + outcome.seconds")} ELSE started_at END,
            ended_at = CASE WHEN outcome.state NOT IN ('ready', 'pending', 'suspended')
                THEN {ago_sql(connection, "outcome.age")} END
        FROM {table} AS outcome
        WHERE {_STEP}.id = outcome.step_id AND {_STEP}.state = 'running' AND {_STEP}.attempt = outcome.attempt
        RETURNING {_STEP}.id, {_STEP}.queue, stop_request, is_addressed, limit_key
    """  # noqa: S608 - names are ours
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return {row[0]: _Accepted(*row[1:]) for row in cursor.fetchall()}


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
        SET output = COALESCE(made.output, {_ACTION}.output), input = COALESCE(made.input, {_ACTION}.input),
            planned_input = CASE WHEN made.input IS NULL THEN planned_input
                ELSE COALESCE(planned_input, {_ACTION}.input) END
        FROM {table} AS made WHERE {_ACTION}.id = made.action_id
    """  # noqa: S608 - names are ours
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)


def _release(
    accepted: Sequence[Outcome],
    running: set[UUID],
    known: Mapping[int, _Accepted],
    result: Recorded,
    delta: Counter[UUID],
    limits: set[str],
) -> None:
    """Make ready what waited for these outcomes, and count."""
    for outcome in accepted:
        if outcome.state not in ACTIVE_STEP_STATES and outcome.phase != Phase.HOOK:
            delta[outcome.plan_id] -= 1
    over = [outcome.step_id for outcome in accepted if outcome.state == StepState.SUCCESS and outcome.is_awaited]
    if over:
        released = open_gates(over, running)
        delta.update(released.by_plan)
        result.ready += released.by_queue
        limits |= released.limits
    decided = [
        outcome for outcome in accepted if outcome.phase == Phase.RESCUE and outcome.state not in ACTIVE_STEP_STATES
    ]
    for outcome in decided:
        failed = Step.objects.filter(plan_id=outcome.plan_id, state=StepState.ERROR, rescue=Rescue.UNDECIDED)
        failed.update(rescue=outcome.rescue or Rescue.PAUSE)
    asked = [outcome for outcome in accepted if outcome.phase == Phase.SKIP and outcome.state not in ACTIVE_STEP_STATES]
    if asked:
        changed = skipping.conclude(asked, running)
        delta.update(changed.active)
        result.ready += changed.ready
        limits |= changed.limits
    ended = [known[outcome.step_id].limit_key for outcome in accepted if outcome.state not in ACTIVE_STEP_STATES]
    limits.update(key for key in ended if key is not None)


def _settle(settled: Collection[UUID], finalizing: Collection[UUID], result: Recorded) -> None:
    """Plans of which no step is active any more: those that went well go on to their finalize phase, about the others
    the orchestrator decides."""
    going_on: set[UUID] = set()
    if may_go_on := set(settled).intersection(finalizing):
        ready, going_on = release_finalize(may_go_on)
        result.ready += ready
    others = set(settled) - going_on
    tell_settled(others)
    result.settled += len(others)


def _json(value: Any) -> str | None:
    return None if value is None else json.dumps(value)
