"""Alarms: steps whose time has come, by the database's clock."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from datetime import timedelta
from uuid import UUID

from django.db.models import Model
from django.db.models.functions import Now

from dynflow_app.ledger.effects import BecameReady
from dynflow_app.ledger.steps import make_ready
from dynflow_app.models import Step
from dynflow_app.models.base import execute, ledger_connection, now_sql, seconds_until_sql, skip_locked
from dynflow_app.states import Alarm, StepState

_STEP = Step._meta.db_table


def first_times(*columns: tuple[type[Model], str]) -> tuple[float | None, ...]:
    """Seconds until the first time in each of these columns, each of which has an index; None if there is none. One
    statement."""
    connection = ledger_connection()
    firsts = ", ".join(
        f"(SELECT {seconds_until_sql(connection, f'MIN({column})')} FROM {model._meta.db_table} "  # noqa: S608 - names are ours
        f"WHERE {column} IS NOT NULL)"
        for model, column in columns
    )
    return execute(f"SELECT {firsts}")[0]


def wake(most: int) -> list[BecameReady]:
    """Suspended steps whose alarm is due become ready; what their alarm was is the cause of their next invocation.
    Needs no locked plan."""
    connection = ledger_connection()
    due = f"""id IN (
        SELECT id FROM {_STEP} WHERE alarm_at IS NOT NULL AND alarm_at <= {now_sql(connection)} AND state = 'suspended'
        ORDER BY alarm_at LIMIT {most} {skip_locked(connection)}
    )"""  # noqa: S608 - names are ours
    cause = "CASE WHEN alarm IN ('wake', 'event', 'timeout') THEN alarm ELSE cause END"
    return make_ready(due, [], frm=StepState.SUSPENDED, cause=cause)


def put_off(step_ids: Collection[int], seconds: float) -> None:
    """Find these late starts again later: their plans are in somebody's hands."""
    if step_ids:
        late = Step.objects.filter(pk__in=step_ids, alarm=Alarm.START, state=StepState.READY)
        late.update(alarm_at=Now() + timedelta(seconds=seconds))


def late_starts(most: int) -> dict[UUID, list[int]]:
    """Plans to their ready steps that no worker claimed in time."""
    late = Step.objects.filter(alarm=Alarm.START, alarm_at__lte=Now(), state=StepState.READY)
    by_plan: defaultdict[UUID, list[int]] = defaultdict(list)
    for plan_id, step_id in late.order_by("alarm_at").values_list("plan_id", "id")[:most]:
        by_plan[plan_id].append(step_id)
    return by_plan
