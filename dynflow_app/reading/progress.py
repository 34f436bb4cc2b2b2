"""Progress: how much of a plan is done, by the weights of its steps, and how long the rest may take."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from math import ceil
from statistics import median
from typing import Any
from uuid import UUID

from django.db.models import Case, F, Q, Sum, Value, When

from dynflow_app.models import ExecutionPlan, Step
from dynflow_app.states import COUNTED_PHASES, TERMINAL_STEP_STATES, PlanResult, PlanState, StepState

RUNS_LOOKED_AT = 20
FEWEST_RUNS = 5
FEWEST_PROGRESS = 0.1

_DONE = Case(
    When(state__in=TERMINAL_STEP_STATES, then=F("weight")),
    When(state=StepState.PENDING, then=Value(0.0)),
    When(
        sub_plans__total__gt=0,
        then=F("weight")
        * (F("sub_plans__success") + F("sub_plans__warning") + F("sub_plans__error") + F("sub_plans__cancelled"))
        * 1.0
        / F("sub_plans__total"),
    ),
    default=F("weight") * F("progress"),
)
_COUNTED = Q(phase__in=COUNTED_PHASES)
SUMS = {"done_weight": Sum(_DONE, filter=_COUNTED), "weight_sum": Sum("weight", filter=_COUNTED)}
"""For ``annotate()`` of grouped steps: the weight done and the whole weight; None stands for nothing."""


def ratio(done_weight: float, weight_sum: float, *, is_stopped: bool) -> float:
    """From 0 to 1. A plan in which nothing has weight is done once it has stopped."""
    return done_weight / weight_sum if weight_sum else float(is_stopped)


def progress_of(plans: Iterable[ExecutionPlan]) -> dict[UUID, float]:
    """How much of each plan is done, from 0 to 1, not rounded. One query for any number of plans.

    A step that ended counts with its whole weight, one that waits for others not at all, one with sub-plans by how many
    of them ended, and any other as far as it said it is. Steps outside the flow (rescue, skip, hooks) do not count.
    """
    given = list(plans)
    steps = Step.objects.filter(plan__in=[plan.pk for plan in given]).order_by()
    rows: Iterable[Any] = steps.values_list("plan_id").annotate(**SUMS)
    sums = {plan_id: (done or 0.0, whole or 0.0) for plan_id, done, whole in rows}
    return {plan.pk: ratio(*sums.get(plan.pk, (0.0, 0.0)), is_stopped=plan.is_stopped) for plan in given}


def eta(plan: ExecutionPlan, progress: float) -> timedelta | None:
    """How long a running plan may still take, coarsely rounded up; None if nobody can tell yet.

    Needs some progress, and some successful runs among the latest of the same entry action. At most one query.
    """
    if plan.state != PlanState.RUNNING or progress < FEWEST_PROGRESS:
        return None
    latest = ExecutionPlan.objects.filter(action=plan.action, state=PlanState.STOPPED).order_by("-created_at", "-id")
    runs = latest.values_list("result", "started_at", "ended_at")[:RUNS_LOOKED_AT]
    times = [
        (ended - started).total_seconds()
        for result, started, ended in runs
        if result == PlanResult.SUCCESS and started is not None and ended is not None
    ]
    if len(times) < FEWEST_RUNS:
        return None
    return rounded_up(timedelta(seconds=median(times) * (1 - progress)))


def rounded_up(remaining: timedelta) -> timedelta:
    """To 5 s below 2 minutes, to a minute below an hour, to 5 minutes beyond; never below zero."""
    seconds = max(0.0, remaining.total_seconds())
    unit = next(unit for limit, unit in ((120, 5), (3600, 60), (float("inf"), 300)) if seconds < limit)
    return timedelta(seconds=ceil(seconds / unit) * unit)
