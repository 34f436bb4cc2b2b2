"""What suspended steps wait for, and what becomes of those that were told to end meanwhile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from django.db.models.functions import Now

from dynflow_app import clock
from dynflow_app.ledger.asides import needs_worker
from dynflow_app.messages import EndedAs, Outcome
from dynflow_app.models import Action, Step
from dynflow_app.models.base import in_sql, ledger_connection, values_table
from dynflow_app.states import Alarm, Cause, StepState, StopRequest

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
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)


def stop_instead(outcomes: Sequence[Outcome], requests: Mapping[int, str]) -> None:
    """Cancel steps that were told to end while they ran and would go on otherwise; changes these outcomes.

    One that suspended itself, and has a `cancel` method, is asked by that, unless the request was to abort.
    """
    names = dict(Action.objects.filter(id__in={o.action_id for o in outcomes}).values_list("id", "name"))
    for outcome in outcomes:
        has_waited = outcome.state == StepState.SUSPENDED and outcome.alarm not in (Alarm.RETRY, Alarm.PARKED)
        asks = requests[outcome.step_id] == StopRequest.CANCEL and needs_worker(names[outcome.action_id], "cancel")
        step = Step.objects.filter(id=outcome.step_id)
        fields = {"alarm": Alarm.NONE, "alarm_at": None}
        if has_waited and asks:
            outcome.state = StepState.READY
            step.transition(
                [StepState.SUSPENDED],
                StepState.READY,
                cause=Cause.CANCEL,
                ready_at=Now(),
                stop_request=StopRequest.NONE,
                **fields,
            )
        else:
            outcome.state = StepState.CANCELLED
            step.transition(
                [StepState.SUSPENDED, StepState.READY], StepState.CANCELLED, ended_at=Now(), deadline_at=None, **fields
            )
            if outcome.ended_as is EndedAs.SUSPENDED:
                outcome.ended_as = EndedAs.CANCELLED
