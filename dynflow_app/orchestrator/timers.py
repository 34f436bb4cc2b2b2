"""Timers: what is due by the database's clock. Alarms of steps, starts of limited steps; envelopes are the inbox's.

A timer is a column that says when, so whatever was down in between, it is found once, and late rather than never.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Due:
    """Seconds until the first timer of each kind; zero or less if one is due, None if there is none."""

    envelopes: float | None
    alarms: float | None
    limits: float | None
    schedules: float | None

    @property
    def first(self) -> float | None:
        """Seconds until the first of all."""
        given = [each for each in (self.envelopes, self.alarms, self.limits, self.schedules) if each is not None]
        return min(given) if given else None


def look() -> Due:
    """When something is due. One statement."""
    connection = ledger_connection()
    columns = ((Envelope, "due_at"), (Step, "alarm_at"), (Limit, "wakes_at"), (Schedule, "next_at"))
    firsts = ", ".join(
        f"(SELECT {seconds_until_sql(connection, f'MIN({column})')} FROM {model._meta.db_table} "  # noqa: S608 - names are ours
        f"WHERE {column} IS NOT NULL)"
        for model, column in columns
    )
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {firsts}", [])
        return Due(*cursor.fetchone())


def is_due(seconds: float | None) -> bool:
    """Whether such a timer has to be acted on."""
    return seconds is not None and seconds <= 0


def fire_alarms(term: Term) -> int:
    """Act on a batch of alarms that are due; returns how many."""
    with transaction.atomic(using=ledger_alias()):
        term.check()
        woken = _wake()
        late = _late()
        probes.reached(probes.Probe.TIMERS_FIRED)
    transport.get().ring_queues(woken)
    if late:  # in a transaction of its own: this one locks plans before steps
        _expire(term, late)
    return sum(woken.values()) + sum(map(len, late.values()))


def fire_limits(term: Term) -> int:
    """Let steps start whose limit allows it by now; returns how many limits were due."""
    with transaction.atomic(using=ledger_alias()):
        term.check()
        limits = limiting.due_limits(LIMITS_BATCH)
        admitted = limiting.admit(limits)
    transport.get().ring_queues(admitted)
    return len(limits)


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


def _late() -> dict[UUID, list[int]]:
    """Plans to their steps that no worker claimed in time."""
    late = Step.objects.filter(alarm=Alarm.START, alarm_at__lte=Now(), state=StepState.READY)
    by_plan: defaultdict[UUID, list[int]] = defaultdict(list)
    for plan_id, step_id in late.order_by("alarm_at").values_list("plan_id", "id")[:BATCH]:
        by_plan[plan_id].append(step_id)
    return by_plan


def _expire(term: Term, late: Mapping[UUID, Collection[int]]) -> None:
    """These steps fail, unless somebody claimed them meanwhile; others may take their place in a limit."""
    with transaction.atomic(using=ledger_alias()):
        term.check()
        list(ExecutionPlan.objects.filter(id__in=late).lock().values_list("id"))
        failed: Counter[UUID] = Counter()
        keys: set[str] = set()
        for plan_id, step_ids in late.items():
            steps = Step.objects.filter(id__in=step_ids, alarm=Alarm.START)
            keys.update(key for key in steps.values_list("limit_key", flat=True) if key is not None)
            failed[plan_id] = -steps.transition(
                [StepState.READY], StepState.ERROR, error=_LATE, alarm="", alarm_at=None, ended_at=Now()
            )
        settled = adjust_active(failed)
        admitted = limiting.admit(keys)
    transport.get().ring_queues(admitted)
    if settled:
        transport.get().ring_orchestrator()
