"""The kind about fairness: how long a plan of one step takes while a plan of very many has the workers."""

from __future__ import annotations

import time
from uuid import UUID

from dynflow_app.models import ExecutionPlan
from dynflow_app.states import PlanState
from dynflow_app.triggering import trigger
from project.bench.actions import Fan, NoOp
from project.bench.figures import Figures, median, percentile
from project.bench.latency import time_of
from project.bench.running import seconds_of
from project.bench.stage import Stage

SMALL_PLANS = 100
"""Plans of one step that are triggered meanwhile, one by one."""


def fair(stage: Stage, count: int) -> Figures:
    """A plan of ``count`` ready steps, first alone, then with small plans that are triggered in its first half."""
    alone = trigger(Fan, count)
    stage.system.wait_for([alone.pk], pause=0.1)
    seconds_alone = seconds_of(alone)
    with stage.observed("step", count) as observed:
        beside = trigger(Fan, count)
        small = _trigger_meanwhile(beside, pause=seconds_alone / 2 / SMALL_PLANS)
        observed.own = stage.system.wait_for([beside.pk, *small], pause=0.1)
    ended = ExecutionPlan.objects.filter(pk__in=small).values_list("created_at", "ended_at")
    latencies = [(time_of(end) - start).total_seconds() * 1000 for start, end in ended]
    seconds_beside = seconds_of(beside)
    return {
        "steps_per_second_of_the_large_alone": count / seconds_alone,
        "steps_per_second_of_the_large_beside": count / seconds_beside,
        "ratio": seconds_alone / seconds_beside,
        "small_plans": len(small),
        "latency_ms_median_of_small": median(latencies),
        "latency_ms_p95_of_small": percentile(latencies, 95),
        "latency_ms_max_of_small": max(latencies),
        **observed.figures,
    }


def _trigger_meanwhile(large: ExecutionPlan, *, pause: float) -> list[UUID]:
    """One, and more as long as the large plan has not stopped."""
    running = ExecutionPlan.objects.filter(pk=large.pk).exclude(state=PlanState.STOPPED)
    small: list[UUID] = []
    while not small or (len(small) < SMALL_PLANS and running.exists()):
        small.append(trigger(NoOp).pk)
        time.sleep(pause)
    return small
