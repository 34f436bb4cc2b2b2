"""Sub-plans: when one comes to rest it is counted, and its parent's step goes on if that waited for it.

Why no wake-up is lost: whoever lets a sub-plan come to rest, and whoever lets the step wait, has the lock of the step's
`SubPlans` row before it counts how many sub-plans move. So the later of the two sees what the earlier did.
The order of locks is: plans, `SubPlans` rows, steps.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Any

from django.db.models import F
from django.db.models.functions import Now

from dynflow_app.models import ExecutionPlan, Step, SubPlans
from dynflow_app.models.base import is_any_of, ledger_connection
from dynflow_app.states import Alarm, Cause, PlanResult, StepState

GATHERING = timedelta(seconds=0.02)
"""For so long further places may become free before a step is woken to fill them: one that fills many at a time costs
less."""
_PLAN = ExecutionPlan._meta.db_table
_SUB_PLANS = SubPlans._meta.db_table


def lock(step_ids: Collection[int]) -> None:
    """Take the locks of these steps' rows, in the order of their keys."""
    rows = SubPlans.objects.filter(step__in=step_ids).order_by("step_id")
    list(rows.select_for_update(no_key=True).values_list("step_id"))


def come_to_rest(numbers: Mapping[int, int], result: PlanResult | None) -> Counter[str]:
    """Count sub-plans that have just stopped with `result`, or paused (None): parent step to how many.

    Returns queue to number of the steps that go on by it.
    """
    lock(numbers)
    if result is not None:
        column = str(result)
        by_number: dict[int, list[int]] = {}
        for step_id, number in numbers.items():
            by_number.setdefault(number, []).append(step_id)
        for number, step_ids in by_number.items():
            SubPlans.objects.filter(step__in=step_ids).update(**{column: F(column) + number})
    return _wake(numbers)


def wait(wakes_below: Mapping[int, int]) -> Counter[str]:
    """Let these suspended steps go on when fewer of their sub-plans move than given, which may be so by now.

    Their rows must be locked. Returns queue to number of the steps that go on at once.
    """
    for step_id, below in wakes_below.items():
        SubPlans.objects.filter(step=step_id).update(wakes_below=below)
    return _wake(wakes_below)


def _wake(step_ids: Collection[int]) -> Counter[str]:
    connection = ledger_connection()
    condition, parameters = is_any_of(connection, "step_id", step_ids)
    moving = f"FROM {_PLAN} WHERE parent_step_id = {_SUB_PLANS}.step_id AND state NOT IN ('stopped', 'paused')"
    enough = f"""CASE
        WHEN wakes_below IS NULL THEN FALSE
        WHEN wakes_below = 1 THEN NOT EXISTS (SELECT 1 {moving})
        ELSE (SELECT COUNT(*) {moving}) < wakes_below END"""
    sql = f"SELECT step_id, wakes_below FROM {_SUB_PLANS} WHERE {condition} AND {enough}"  # noqa: S608 - as above
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        rows = cursor.fetchall()
    if not rows:
        return Counter()
    SubPlans.objects.filter(step__in=[step_id for step_id, _ in rows]).update(wakes_below=None)
    return _go_on(
        over=[step_id for step_id, below in rows if below == 1], free=[step_id for step_id, below in rows if below > 1]
    )


def _go_on(*, over: Collection[int], free: Collection[int]) -> Counter[str]:
    """Steps whose sub-plans are `over` go on at once; those that have `free` places again a little later."""
    places = Step.objects.filter(id__in=free, state=StepState.SUSPENDED)
    if free:
        places.update(alarm=Alarm.WAKE, alarm_at=Now() + GATHERING)
    steps = Step.objects.filter(id__in=over)
    queues = Counter(steps.filter(state=StepState.SUSPENDED).values_list("queue", flat=True)) if over else Counter()
    fields: dict[str, Any] = {"cause": Cause.WAKE, "alarm": "", "alarm_at": None, "ready_at": Now()}
    if queues:
        steps.transition([StepState.SUSPENDED], StepState.READY, **fields)
    return queues
