"""The kind about fairness: how long a plan of one step takes while a plan of very many has the workers."""

from __future__ import annotations

import time
from uuid import UUID

from dynflow_app.models import ExecutionPlan
from dynflow_app.states import PlanState
from dynflow_app.triggering import TriggerOptions, trigger
from project.bench.actions import Fan, NoOp
from project.bench.figures import Figures, median, percentile
from project.bench.latency import time_of
from project.bench.running import seconds_of
from project.bench.stage import Stage

SMALL_PLANS = 100
"""Plans of one step that are triggered meanwhile, one by one."""


def fair(stage: Stage, count: int) -> Figures:
    """A plan of ``count`` ready steps, first alone, then with small plans that are triggered in its first half: in fair
    order, then all with one fairness key, which is first come, first served."""
    alone = trigger(Fan, count)
    stage.system.wait_for([alone.pk], pause=0.1)
    pause = seconds_of(alone) / 2 / SMALL_PLANS
    with stage.observed("step", count) as observed:
        beside, small = _together(count, pause, TriggerOptions())
        observed.own = stage.system.wait_for([beside.pk, *small], pause=0.1)
    in_line, last = _together(count, pause, TriggerOptions(fairness_key="all"))
    stage.system.wait_for([in_line.pk, *last], pause=0.1)
    latencies, of_last = _latencies(small), _latencies(last)
    return {
        "steps_per_second_of_the_large_alone": count / seconds_of(alone),
        "steps_per_second_of_the_large_beside": count / seconds_of(beside),
        "steps_per_second_of_the_large_first_come": count / seconds_of(in_line),
        "ratio": seconds_of(in_line) / seconds_of(beside),
        "small_plans": len(small),
        "latency_ms_median_of_small": median(latencies),
        "latency_ms_p95_of_small": percentile(latencies, 95),
        "latency_ms_max_of_small": max(latencies),
        "latency_ms_median_of_small_first_come": median(of_last),
        **observed.figures,
    }


def _latencies(small: list[UUID]) -> list[float]:
    """From trigger to end, in ms."""
    ended = ExecutionPlan.objects.filter(pk__in=small).values_list("created_at", "ended_at")
    return [(time_of(end) - start).total_seconds() * 1000 for start, end in ended]


def _together(count: int, pause: float, options: TriggerOptions) -> tuple[ExecutionPlan, list[UUID]]:
    """The large plan, and the small ones triggered meanwhile."""
    large = trigger(Fan, count, options=options)
    return large, _trigger_meanwhile(large, pause, options)


def _trigger_meanwhile(large: ExecutionPlan, pause: float, options: TriggerOptions) -> list[UUID]:
    """One, and more as long as the large plan has not stopped."""
    running = ExecutionPlan.objects.filter(pk=large.pk).exclude(state=PlanState.STOPPED)
    small: list[UUID] = []
    while not small or (len(small) < SMALL_PLANS and running.exists()):
        small.append(trigger(NoOp, options=options).pk)
        time.sleep(pause)
    return small
