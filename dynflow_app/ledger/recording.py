"""Record: a batch of outcomes becomes fact, and what waited for them becomes ready.

One transaction of about eight statements for any number of outcomes. An outcome whose attempt is no longer the current
one (its world was declared dead, an operator decided otherwise) changes nothing and is reported as refused.

This is the way that works for every outcome on every database, and the reference for `turning`, which does the most
common part of it in one statement.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from dynflow_app import clock, probes
from dynflow_app.ledger import events, skipping, sub_plans, waiting
from dynflow_app.ledger.concluding import conclude
from dynflow_app.ledger.effects import Effects
from dynflow_app.ledger.failing import failing_fast
from dynflow_app.ledger.finalizing import claim_along
from dynflow_app.ledger.locking import unlock
from dynflow_app.ledger.releasing import open_gates
from dynflow_app.messages import EndedAs, Outcome
from dynflow_app.models import Action, Attempt, ExecutionPlan, Step, Ticket
from dynflow_app.models.base import ago_sql, execute, in_sql, ledger_connection, values_table
from dynflow_app.states import (
    ACTIVE_STEP_STATES,
    DEAF_ALARMS,
    STEP_TRANSITIONS,
    Alarm,
    Phase,
    PlanState,
    Rescue,
    StepState,
    require_legal,
)

_STEP = Step._meta.db_table
_ACTION = Action._meta.db_table
_ATTEMPT = Attempt._meta.db_table


class _Accepted(NamedTuple):
    """What the ledger knew about a step whose outcome it accepted."""

    queue: str
    is_addressed: bool
    limit_key: str | None
    has_timer: bool


def record(outcomes: Sequence[Outcome], *, worker: str) -> Effects:
    """Write `outcomes` of the process called `worker`, in the caller's transaction; concluded."""
    effects = Effects()
    running, fail_fast = _lock_plans({outcome.plan_id for outcome in outcomes})
    parents = [outcome.step_id for outcome in outcomes if outcome.wakes_below]
    if parents:
        sub_plans.lock(parents)
    going_on = [
        outcome
        for outcome in outcomes
        if outcome.state in (StepState.SUSPENDED, StepState.READY) and outcome.wakes_below is None
    ]
    asked = waiting.stop_instead(going_on) if going_on else []
    known = _write_steps(outcomes)
    accepted = [outcome for outcome in outcomes if outcome.step_id in known]
    effects.refused = [outcome for outcome in outcomes if outcome.step_id not in known]
    effects.failed = [outcome for outcome in accepted if outcome.state == StepState.ERROR]
    _move_tickets(accepted, known, effects)
    _write_attempts([outcome for outcome in accepted if not _says_nothing_new(outcome)], worker)
    write_payloads(accepted)
    _follow_up(accepted, known, asked, effects)
    if fail_fast:
        running -= failing_fast(fail_fast, effects)
    _release(accepted, running, known, effects)
    conclude(effects)
    probes.reached(probes.Probe.OUTCOMES_WRITTEN)
    return effects


def _lock_plans(plan_ids: set[UUID]) -> tuple[set[UUID], set[UUID]]:
    """Lock the plans; returns those that are running, and those of them that fail fast."""
    rows = list(ExecutionPlan.objects.filter(id__in=plan_ids).lock().values_list("id", "state", "fail_fast"))
    running = {plan_id for plan_id, state, _ in rows if state == PlanState.RUNNING}
    return running, running.intersection(plan_id for plan_id, _, fail_fast in rows if fail_fast)


def _write_steps(outcomes: Sequence[Outcome]) -> dict[int, _Accepted]:
    """Returns the accepted steps."""
    for outcome in outcomes:
        require_legal(STEP_TRANSITIONS, [StepState.RUNNING], outcome.state)
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
    waits_again = "outcome.state = 'ready' AND start_timeout IS NOT NULL"
    sql = f"""
        UPDATE {_STEP}
        SET state = outcome.state, error = outcome.error, ran_for = ran_for + outcome.seconds,
            cause = CASE WHEN outcome.state = 'ready' THEN cause ELSE 'start' END,
            deadline_at = CASE WHEN outcome.state = 'ready' THEN deadline_at END,
            alarm = CASE WHEN {waits_again} THEN 'start' ELSE '' END,
            alarm_at = CASE WHEN {waits_again} THEN {in_sql(connection, "start_timeout")} END,
            slot = CASE WHEN outcome.state IN ('ready', 'suspended') THEN slot END,
            stop_request = CASE WHEN outcome.state = 'pending' THEN '' ELSE stop_request END,
            started_at = CASE WHEN outcome.seconds > 0
                THEN {ago_sql(connection, "outcome.age + outcome.seconds")} ELSE started_at END,
            ended_at = CASE WHEN outcome.state NOT IN ('ready', 'pending', 'suspended')
                THEN {ago_sql(connection, "outcome.age")} END
        FROM {table} AS outcome
        WHERE {_STEP}.id = outcome.step_id AND {_STEP}.state = 'running' AND {_STEP}.attempt = outcome.attempt
        RETURNING {_STEP}.id, {_STEP}.queue, is_addressed, limit_key, start_timeout
    """  # noqa: S608 - names are ours
    return {row[0]: _Accepted(row[1], bool(row[2]), row[3], row[4] is not None) for row in execute(sql, parameters)}


def _move_tickets(accepted: Sequence[Outcome], known: Mapping[int, _Accepted], effects: Effects) -> None:
    """Steps that are ready again keep their turn; the others wait for no worker any more."""
    again = [outcome.step_id for outcome in accepted if outcome.state == StepState.READY]
    if again:
        Ticket.objects.filter(step__in=again).give_back()
        effects.ready.update(known[step_id].queue for step_id in again)
        effects.rings_orchestrator |= any(known[step_id].has_timer for step_id in again)
    Ticket.objects.hand_in([outcome.step_id for outcome in accepted if outcome.state != StepState.READY])


def _says_nothing_new(outcome: Outcome) -> bool:
    """Whether a row about this attempt would repeat what stands on the step: a first success does, and user code that
    never started has nothing to say."""
    is_first_success = outcome.ended_as is EndedAs.SUCCEEDED and outcome.attempt == 1
    return outcome.ended_as is None or (is_first_success and outcome.state == StepState.SUCCESS)


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
    execute(sql, [worker, *parameters])


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
    execute(sql, parameters)


def _follow_up(
    accepted: Sequence[Outcome], known: Mapping[int, _Accepted], asked: Sequence[int], effects: Effects
) -> None:
    """What only some outcomes need, and most batches not at all: timers, events, requests to end."""
    suspended = [outcome for outcome in accepted if outcome.state == StepState.SUSPENDED]
    if suspended:
        waiting.write_waits(suspended)
        effects.rings_orchestrator |= any(outcome.alarm != Alarm.NONE or outcome.sent for outcome in suspended)
    answered = [outcome for outcome in accepted if outcome.event_id and outcome.state != StepState.READY]
    if answered:  # what will be tried again will have the same event again
        events.note_handled([outcome for outcome in answered if outcome.alarm not in DEAF_ALARMS])
    if asked:
        waiting.ask(asked, effects)
    parents = {outcome.step_id: outcome.wakes_below for outcome in suspended if outcome.wakes_below}
    if parents:
        sub_plans.wait(parents, effects)
    sending = [outcome for outcome in suspended if outcome.sent]
    if sending:
        events.store_sent(sending)
    unlocking = [outcome for outcome in accepted if outcome.unlocked]
    if unlocking:
        unlock(unlocking, effects)
    addressed = {o.step_id for o in accepted if known[o.step_id].is_addressed} | {o.step_id for o in sending}
    if addressed:
        events.deliver(addressed.intersection(outcome.step_id for outcome in suspended), effects)
        active = {outcome.step_id for outcome in accepted if outcome.state in ACTIVE_STEP_STATES}
        effects.dropped += events.drop(addressed - active)


def _release(accepted: Sequence[Outcome], running: set[UUID], known: Mapping[int, _Accepted], effects: Effects) -> None:
    """Make ready what waited for these outcomes, and count."""
    ended = [outcome for outcome in accepted if outcome.state not in ACTIVE_STEP_STATES]
    effects.ended(outcome.plan_id for outcome in ended if outcome.phase != Phase.HOOK)
    over = [outcome.step_id for outcome in ended if outcome.state == StepState.SUCCESS and outcome.is_awaited]
    if over:
        open_gates(over, running, effects)
    for outcome in ended:
        if outcome.phase == Phase.RESCUE:
            failed = Step.objects.filter(plan_id=outcome.plan_id, rescue=Rescue.UNDECIDED).in_error()
            failed.update(rescue=outcome.rescue or Rescue.PAUSE)
    asides = [outcome for outcome in ended if outcome.phase == Phase.SKIP]
    if asides:
        skipping.follow_answers(asides, running, effects)
    keys = [known[outcome.step_id].limit_key for outcome in ended]
    effects.limits.update(key for key in keys if key is not None)


def _json(value: Any) -> str | None:
    return None if value is None else json.dumps(value)


def record_failed_phase(first: Outcome, failed: Outcome, *, worker: str) -> Effects:
    """Write that a finalize phase was rolled back because the step of `failed` raised. `first` is the claimed one."""
    if failed.step_id == first.step_id:
        return record([failed], worker=worker)
    first.state, first.ended_as, first.output, first.input = StepState.PENDING, EndedAs.ROLLED_BACK, None, None
    claim_along([first, failed], worker)
    return record([first, failed], worker=worker)
