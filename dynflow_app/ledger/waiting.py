"""What suspended steps wait for, and what becomes of those that were told to end meanwhile."""

from __future__ import annotations

from collections.abc import Sequence

from dynflow_app import clock
from dynflow_app.ledger.asides import needs_worker
from dynflow_app.ledger.effects import Effects
from dynflow_app.ledger.steps import make_these_ready
from dynflow_app.messages import EndedAs, Outcome
from dynflow_app.models import Step
from dynflow_app.models.base import execute, in_sql, ledger_connection, values_table
from dynflow_app.states import DEAF_ALARMS, Alarm, Cause, StepState, StopRequest

_STEP = Step._meta.db_table


def write_waits(outcomes: Sequence[Outcome]) -> None:
    """Set the alarms of steps that have just become suspended, counting from the end of their invocation."""
    connection = ledger_connection()
    columns = {
        "step_id": "bigint", "alarm": "text", "alarm_in": "double precision", "cause": "text",
        "deadline_in": "double precision", "failures": "int", "progress": "double precision",
    }  # fmt: skip
    now = clock.monotonic()
    rows = []
    for outcome in outcomes:
        age = now - outcome.ended if outcome.ended else 0.0
        deadline_in = None if outcome.deadline_in is None else outcome.deadline_in - age
        rows.append(
            (
                outcome.step_id, str(outcome.alarm), outcome.alarm_in - age, str(outcome.cause), deadline_in,
                int(outcome.alarm == Alarm.RETRY), outcome.progress,
            )
        )  # fmt: skip
    table, parameters = values_table(connection, columns, rows)
    sql = f"""
        UPDATE {_STEP}
        SET alarm = waits.alarm, cause = waits.cause, failures = {_STEP}.failures + waits.failures,
            alarm_at = CASE WHEN waits.alarm <> '' THEN {in_sql(connection, "waits.alarm_in")} END,
            deadline_at = CASE WHEN waits.deadline_in IS NOT NULL THEN {in_sql(connection, "waits.deadline_in")} END,
            progress = COALESCE(waits.progress, {_STEP}.progress)
        FROM {table} AS waits WHERE {_STEP}.id = waits.step_id
    """  # noqa: S608 - names are ours
    execute(sql, parameters)


def stop_instead(outcomes: Sequence[Outcome]) -> list[int]:
    """Let steps that were told to end while they ran, and would go on otherwise, end as cancelled: changes these
    outcomes before they are written. Their plans must be locked.

    One that suspended itself, and has a `cancel` method, is asked by that, unless the request was to abort: returns
    these steps.
    """
    told = Step.objects.filter(pk__in=[outcome.step_id for outcome in outcomes]).exclude(stop_request=StopRequest.NONE)
    requests = {pk: (request, name) for pk, request, name in told.values_list("pk", "stop_request", "action__name")}
    asked = []
    for outcome in outcomes:
        if outcome.step_id not in requests:
            continue
        request, name = requests[outcome.step_id]
        has_waited = outcome.state == StepState.SUSPENDED and outcome.alarm not in DEAF_ALARMS
        if has_waited and request == StopRequest.CANCEL and needs_worker(name, "cancel"):
            asked.append(outcome.step_id)
        else:
            outcome.state = StepState.CANCELLED
            if outcome.ended_as is EndedAs.SUSPENDED:
                outcome.ended_as = EndedAs.CANCELLED
    return asked


def ask(step_ids: Sequence[int], effects: Effects) -> None:
    """Let a worker call the `cancel` method of these suspended steps."""
    woken = make_these_ready(step_ids, frm=StepState.SUSPENDED, cause=Cause.CANCEL)
    Step.objects.filter(pk__in=[row.step_id for row in woken]).update(stop_request=StopRequest.NONE)
    effects.became_ready(woken, is_new=False)
