"""Events: kept in the ledger until the step they were sent to can handle them.

The transaction that suspends a step and the one that sends an event both lock the plan, so one of them sees the other's
work: either the event finds the step suspended, or the suspending step finds the event.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from dynflow_app import clock
from dynflow_app.messages import Outcome
from dynflow_app.models import Event, Step
from dynflow_app.models.base import in_sql, is_any_of, ledger_connection, now_sql, values_table
from dynflow_app.states import EventState

_STEP = Step._meta.db_table
_EVENT = Event._meta.db_table
_CAN_HEAR = "state = 'suspended' AND alarm NOT IN ('retry', 'parked')"
_WAITING = f"{_EVENT}.step_id = {_STEP}.id AND {_EVENT}.state = 'waiting'"


def deliver(step_ids: Collection[int]) -> Counter[str]:
    """Make those of these steps ready that are suspended and have an event; set the alarm of those that get one later.

    Returns queue to number of steps made ready. The plans must be locked.
    """
    connection = ledger_connection()
    inside, parameters = is_any_of(connection, "id", step_ids)
    now = now_sql(connection)
    wake = f"""
        UPDATE {_STEP} SET state = 'ready', cause = 'event', ready_at = {now}, alarm = '', alarm_at = NULL
        WHERE {inside} AND {_CAN_HEAR} AND EXISTS (SELECT 1 FROM {_EVENT} WHERE {_WAITING} AND due_at <= {now})
        RETURNING queue
    """  # noqa: S608 - names are ours
    set_alarm = f"""
        UPDATE {_STEP} SET alarm = 'event', alarm_at = (SELECT MIN(due_at) FROM {_EVENT} WHERE {_WAITING})
        WHERE {inside} AND {_CAN_HEAR}
            AND EXISTS (SELECT 1 FROM {_EVENT} WHERE {_WAITING} AND (alarm_at IS NULL OR due_at < alarm_at))
    """  # noqa: S608 - names are ours
    with connection.cursor() as cursor:
        cursor.execute(wake, parameters)
        woken = Counter(row[0] for row in cursor.fetchall())
        cursor.execute(set_alarm, parameters)
    return woken


def drop(step_ids: Collection[int]) -> Counter[int]:
    """Let go of the events that these ended steps will never handle; returns step to number of events."""
    waiting = Event.objects.filter(step_id__in=step_ids, state=EventState.WAITING)
    dropped = Counter(waiting.values_list("step_id", flat=True))
    if dropped:
        waiting.transition([EventState.WAITING], EventState.DROPPED)
    return dropped


def note_handled(outcomes: Sequence[Outcome]) -> None:
    """Write down which attempt handled which event."""
    connection = ledger_connection()
    rows = [(outcome.event_id, outcome.attempt) for outcome in outcomes]
    table, parameters = values_table(connection, {"event_id": "bigint", "attempt": "int"}, rows)
    sql = f"""
        UPDATE {_EVENT} SET state = 'handled', attempt = done.attempt
        FROM {table} AS done WHERE {_EVENT}.id = done.event_id AND {_EVENT}.state = 'waiting'
    """  # noqa: S608 - names are ours
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)


def store_sent(outcomes: Sequence[Outcome]) -> None:
    """Store what suspended steps sent to themselves; delays count from the end of the invocation."""
    now = clock.monotonic()
    rows = [
        (outcome.step_id, event.name, event.data, max(0.0, event.after - (now - outcome.ended)))
        for outcome in outcomes
        for event in outcome.sent or ()
    ]
    events = [Event(step_id=step_id, name=name, data=data, sent_by="itself") for step_id, name, data, _ in rows]
    Event.objects.bulk_create(events)
    connection = ledger_connection()
    later = [(event.id, row[3]) for event, row in zip(events, rows, strict=True) if row[3] > 0]
    if later:
        table, parameters = values_table(connection, {"event_id": "bigint", "delay": "double precision"}, later)
        sql = f"""
            UPDATE {_EVENT} SET due_at = {in_sql(connection, "later.delay")}
            FROM {table} AS later WHERE {_EVENT}.id = later.event_id
        """  # noqa: S608 - names are ours
        with connection.cursor() as cursor:
            cursor.execute(sql, parameters)
    Step.objects.filter(id__in={row[0] for row in rows}).update(is_addressed=True)
