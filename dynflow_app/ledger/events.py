"""Events: kept in the ledger until the step they were sent to can handle them.

The transaction that suspends a step and the one that sends an event both lock the plan, so one of them sees the other's
work: either the event finds the step suspended, or the suspending step finds the event.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from dynflow_app import clock
from dynflow_app.ledger.effects import Effects
from dynflow_app.ledger.steps import make_ready
from dynflow_app.messages import Outcome
from dynflow_app.models import Event, Step
from dynflow_app.models.base import execute, in_sql, is_any_of, ledger_connection, now_sql, values_table
from dynflow_app.states import EVENT_TRANSITIONS, Cause, EventState, StepState, require_legal

_STEP = Step._meta.db_table
_EVENT = Event._meta.db_table
_CAN_HEAR = "alarm NOT IN ('retry', 'parked')"
_WAITING = f"{_EVENT}.step_id = {_STEP}.id AND {_EVENT}.state = 'waiting'"


def deliver(step_ids: Collection[int], effects: Effects) -> None:
    """Make those of these steps ready that are suspended and have an event; set the alarm of those that get one later.
    The plans must be locked."""
    if not step_ids:
        return
    connection = ledger_connection()
    inside, parameters = is_any_of(connection, "id", step_ids)
    is_due = f"EXISTS (SELECT 1 FROM {_EVENT} WHERE {_WAITING} AND due_at <= {now_sql(connection)})"  # noqa: S608 - names are ours
    woken = make_ready(f"{inside} AND {_CAN_HEAR} AND {is_due}", parameters, frm=StepState.SUSPENDED, cause=Cause.EVENT)
    effects.became_ready(woken, is_new=False)
    set_alarm = f"""
        UPDATE {_STEP} SET alarm = 'event', alarm_at = (SELECT MIN(due_at) FROM {_EVENT} WHERE {_WAITING})
        WHERE {inside} AND state = 'suspended' AND {_CAN_HEAR}
            AND EXISTS (SELECT 1 FROM {_EVENT} WHERE {_WAITING} AND (alarm_at IS NULL OR due_at < alarm_at))
    """  # noqa: S608 - names are ours
    execute(set_alarm, parameters)


def drop(step_ids: Collection[int]) -> Counter[int]:
    """Let go of the events that these ended steps will never handle; returns step to number of events."""
    waiting = Event.objects.filter(step_id__in=step_ids, state=EventState.WAITING)
    dropped = Counter(waiting.values_list("step_id", flat=True))
    if dropped:
        waiting.drop()
    return dropped


def note_handled(outcomes: Sequence[Outcome]) -> None:
    """Write down which attempt handled which event."""
    require_legal(EVENT_TRANSITIONS, [EventState.WAITING], EventState.HANDLED)
    connection = ledger_connection()
    rows = [(outcome.event_id, outcome.attempt) for outcome in outcomes]
    table, parameters = values_table(connection, {"event_id": "bigint", "attempt": "int"}, rows)
    sql = f"""
        UPDATE {_EVENT} SET state = 'handled', attempt = done.attempt
        FROM {table} AS done WHERE {_EVENT}.id = done.event_id AND {_EVENT}.state = 'waiting'
    """  # noqa: S608 - names are ours
    execute(sql, parameters)


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
        execute(sql, parameters)
    Step.objects.filter(id__in={row[0] for row in rows}).update(is_addressed=True)
