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
MOST_FULL = 0.5
"""Share of the places that are taken, up to which nobody waits for further ones."""
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


def wake_forgotten() -> Counter[str]:
    """Let steps go on that wait for sub-plans that are gone; returns as `wait`."""
    waiting = SubPlans.objects.filter(wakes_below__isnull=False, step__state=StepState.SUSPENDED)
    step_ids = list(waiting.values_list("step_id", flat=True))
    forgotten = list(_free_places(step_ids)) if step_ids else []
    if not forgotten:
        return Counter()
    lock(forgotten)
    return _wake(forgotten)


def _free_places(step_ids: Collection[int]) -> dict[int, float]:
    """Those of these waiting steps that may go on, with the share of their places that is taken."""
    connection = ledger_connection()
    condition, parameters = is_any_of(connection, "step_id", step_ids)
    moving = f"FROM {_PLAN} WHERE parent_step_id = {_SUB_PLANS}.step_id AND state NOT IN ('stopped', 'paused')"
    sql = f"""
        SELECT step_id, wakes_below, CASE
            WHEN wakes_below > 1 THEN (SELECT COUNT(*) {moving})
            WHEN EXISTS (SELECT 1 {moving}) THEN 1 ELSE 0 END
        FROM {_SUB_PLANS} WHERE {condition} AND wakes_below IS NOT NULL
    """  # noqa: S608 - as above
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return {step_id: moving / below for step_id, below, moving in cursor.fetchall() if moving < below}


def _wake(step_ids: Collection[int]) -> Counter[str]:
    free = _free_places(step_ids)
    if not free:
        return Counter()
    SubPlans.objects.filter(step__in=free).update(wakes_below=None)
    at_once = [step_id for step_id, share in free.items() if share <= MOST_FULL]
    return _go_on(at_once=at_once, soon=free.keys() - set(at_once))


def _go_on(*, at_once: Collection[int], soon: Collection[int]) -> Counter[str]:
    """These suspended steps become ready; the second ones a little later. Returns queue to number of the first."""
    places = Step.objects.filter(id__in=soon, state=StepState.SUSPENDED)
    if soon:
        places.update(alarm=Alarm.WAKE, alarm_at=Now() + GATHERING)
    steps = Step.objects.filter(id__in=at_once)
    suspended = steps.filter(state=StepState.SUSPENDED)
    queues = Counter(suspended.values_list("queue", flat=True)) if at_once else Counter()
    fields: dict[str, Any] = {"cause": Cause.WAKE, "alarm": "", "alarm_at": None, "ready_at": Now()}
    if queues:
        steps.transition([StepState.SUSPENDED], StepState.READY, **fields)
    return queues
