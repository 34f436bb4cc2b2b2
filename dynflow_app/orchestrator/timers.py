"""Timers: what is due by the database's clock. Alarms of steps, starts of limited steps; envelopes are the inbox's.

A timer is a column that says when, so whatever was down in between, it is found once, and late rather than never.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from uuid import UUID

from django.db import transaction
from django.db.models.functions import Now

from dynflow_app import probes, transport
from dynflow_app.ledger import limiting
from dynflow_app.ledger.releasing import adjust_active
from dynflow_app.models import Envelope, ExecutionPlan, Limit, Schedule, Step, Term
from dynflow_app.models.base import ledger_alias, ledger_connection, now_sql, seconds_until_sql, skip_locked
from dynflow_app.states import Alarm, StepState

BATCH = 500
LIMITS_BATCH = 50
_STEP = Step._meta.db_table

_LATE = {
    "class": "StartTimeout",
    "message": (
        "No worker claimed this step within its start_timeout. Start workers for its queue, then resume the plan."
    ),
    "backtrace": "",
}


def next_due() -> float | None:
    """Seconds until the next timer of any kind; zero or less if one is due, None if there is none. One statement."""
    connection = ledger_connection()
    columns = ((Envelope, "due_at"), (Step, "alarm_at"), (Limit, "wakes_at"), (Schedule, "next_at"))
    union = " UNION ALL ".join(
        f"SELECT MIN({column}) AS at FROM {model._meta.db_table} WHERE {column} IS NOT NULL"  # noqa: S608 - names are ours
        for model, column in columns
    )
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {seconds_until_sql(connection, 'MIN(at)')} FROM ({union}) AS timers", [])  # noqa: S608 - as above
        seconds: float | None = cursor.fetchone()[0]
    return seconds


def run_once(term: Term) -> int:
    """Act on a batch of what is due; returns how much that was."""
    with transaction.atomic(using=ledger_alias()):
        term.check()
        woken = _wake()
        probes.reached(probes.Probe.TIMERS_FIRED)
    # Each in a transaction of its own: the first locks steps, the second plans before steps, the last limits alone.
    with transaction.atomic(using=ledger_alias()):
        term.check()
        late, settled, freed = _expire()
    with transaction.atomic(using=ledger_alias()):
        term.check()
        limits = limiting.due_limits(LIMITS_BATCH)
        admitted = limiting.admit({*limits, *freed})
    transport.get().ring_queues(woken + admitted)
    if settled:
        transport.get().ring_orchestrator()
    return sum(woken.values()) + late + len(limits)


def _wake() -> Counter[str]:
    """Suspended steps whose alarm is due become ready; what their alarm was is the cause of their next invocation."""
    connection = ledger_connection()
    now = now_sql(connection)
    sql = f"""
        UPDATE {_STEP}
        SET state = 'ready', ready_at = {now}, alarm = '', alarm_at = NULL,
            cause = CASE WHEN alarm IN ('wake', 'event', 'timeout') THEN alarm ELSE cause END
        WHERE state = 'suspended' AND id IN (
            SELECT id FROM {_STEP} WHERE alarm_at IS NOT NULL AND alarm_at <= {now} AND state = 'suspended'
            ORDER BY alarm_at LIMIT {BATCH} {skip_locked(connection)}
        )
        RETURNING queue
    """  # noqa: S608 - names are ours
    with connection.cursor() as cursor:
        cursor.execute(sql, [])
        return Counter(row[0] for row in cursor.fetchall())


def _expire() -> tuple[int, int, set[str]]:
    """Steps that no worker claimed in time fail. Returns how many, how many plans came to rest by it, and the
    limits that have room again."""
    late = Step.objects.filter(alarm=Alarm.START, alarm_at__lte=Now(), state=StepState.READY)
    by_plan: defaultdict[UUID, list[int]] = defaultdict(list)
    for plan_id, step_id in late.order_by("alarm_at").values_list("plan_id", "id")[:BATCH]:
        by_plan[plan_id].append(step_id)
    if not by_plan:
        return 0, 0, set()
    list(ExecutionPlan.objects.filter(id__in=by_plan).lock().values_list("id"))
    keys = set(late.exclude(limit_key=None).values_list("limit_key", flat=True))
    failed: Counter[UUID] = Counter()
    for plan_id, step_ids in by_plan.items():
        steps = Step.objects.filter(id__in=step_ids, alarm=Alarm.START)
        failed[plan_id] = -steps.transition(
            [StepState.READY], StepState.ERROR, error=_LATE, alarm="", alarm_at=None, ended_at=Now()
        )
    return -sum(failed.values()), adjust_active(failed), {key for key in keys if key is not None}
