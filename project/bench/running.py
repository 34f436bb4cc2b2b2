"""Kinds about work that gets done: each function measures one kind once and returns its figures."""

from __future__ import annotations

import time
from itertools import pairwise

from django.db.models import Max, Min

from dynflow_app.models import ExecutionPlan, Step
from dynflow_app.triggering import trigger
from project.bench.actions import Chain, Family, Fan, NoOp, Sleepers
from project.bench.figures import Figures, median, most_at_once, percentile
from project.bench.latency import server_time, single, time_of
from project.bench.stage import Stage
from project.bench.system import System
from project.bench.usage import processes

SINGLES = 50
"""Plans triggered one at a time to learn the latency."""
THREADED_SHARE = 10
"""Of this many steps that sleep in coroutines, one sleeps in a thread: there are fewer threads."""
NAP = 1.0
"""Seconds that a step sleeps."""


def warm_up(system: System) -> None:
    """Let every process import and connect what it needs."""
    plans = [trigger(Fan, 50).pk, trigger(Chain, 10).pk, *(trigger(NoOp).pk for _ in range(5))]
    system.wait_for(plans, pause=0.02)


def steps(stage: Stage, count: int) -> Figures:
    """One plan of ``count`` steps side by side."""
    with stage.observed("planned_step", count) as planning:
        began = time.perf_counter()
        plan = trigger(Fan, count)
        planned = time.perf_counter() - began
    with stage.observed("step", count) as observed:
        observed.own = stage.system.wait_for([plan.pk], pause=0.1)
    seconds = seconds_of(plan)
    with_trigger = (time_of(plan.ended_at) - plan.created_at).total_seconds()
    return {
        "planning_and_trigger_seconds": planned,
        "steps_per_second": count / seconds,
        "steps_per_second_with_trigger": count / with_trigger,
        "ms_per_step": seconds * 1000 / count,
        **planning.figures,
        **observed.figures,
    }


def chain(stage: Stage, count: int) -> Figures:
    """One plan of ``count`` steps one after the other."""
    plan = trigger(Chain, count)
    with stage.observed("hop", count) as observed:
        observed.own = stage.system.wait_for([plan.pk], pause=0.1)
    starts = Step.objects.filter(plan=plan).order_by("started_at").values_list("started_at", flat=True)
    hops = [(time_of(later) - time_of(earlier)).total_seconds() * 1000 for earlier, later in pairwise(starts)]
    return {"ms_per_hop_median": median(hops), "ms_per_hop_p95": percentile(hops, 95), **observed.figures}


def plans(stage: Stage, count: int) -> Figures:
    """``count`` plans of one step by one client, then single ones on the idle system."""
    with stage.observed("plan", count) as observed:
        since = server_time()
        began = time.perf_counter()
        ids = [trigger(NoOp).pk for _ in range(count)]
        triggering = time.perf_counter() - began
        observed.own = stage.system.wait_for(ids, pause=0.1)
    last = ExecutionPlan.objects.filter(pk__in=ids).aggregate(at=Max("ended_at"))["at"]
    latencies, triggers = zip(*(single(stage.system) for _ in range(SINGLES)), strict=True)
    return {
        "triggered_per_second": count / triggering,
        "finished_per_second": count / (last - since).total_seconds(),
        "latency_ms_median": median(latencies),
        "latency_ms_p95": percentile(latencies, 95),
        "trigger_ms_median": median(triggers),
        **observed.figures,
    }


def sub_plans(stage: Stage, count: int) -> Figures:
    """One plan of ``count`` sub-plans with all phases, run by two workers, 50 at a time and then all at once."""
    system = stage.system
    system.add_worker()
    system.wait_for([trigger(Family, count=200, limit=None).pk], pause=0.02)
    orchestrator = system.roots()["orchestrator"]
    figures: Figures = {}
    for name, limit in (("limited", 50), ("unlimited", None)):
        before = processes()[orchestrator].resident_bytes
        with stage.observed("sub_plan", count) as observed:
            plan = trigger(Family, count=count, limit=limit)
            observed.own = system.wait_for([plan.pk], pause=0.1)
        plan.refresh_from_db()
        seconds = (time_of(plan.ended_at) - plan.created_at).total_seconds()
        figures[f"seconds_{name}"] = seconds
        figures[f"sub_plans_per_second_{name}"] = count / seconds
        if limit is not None:
            children = ExecutionPlan.objects.filter(parent_step__plan=plan)
            figures[f"most_at_once_{name}"] = most_at_once(children.values_list("started_at", "ended_at"))
        figures[f"orchestrator_grew_mib_{name}"] = (processes()[orchestrator].resident_bytes - before) / 2**20
        figures |= {f"{figure}_{name}": value for figure, value in observed.figures.items()}
    return figures


def sleep(stage: Stage, count: int) -> Figures:
    """``count`` steps that sleep for a second in coroutines, then a tenth as many in threads."""
    figures: Figures = {}
    for name, number in (("coroutines", count), ("threads", max(1, count // THREADED_SHARE))):
        with stage.observed("step", number) as observed:
            plan = trigger(Sleepers, number, NAP, in_threads=name == "threads")
            observed.own = stage.system.wait_for([plan.pk], pause=0.1)
        figures[f"steps_{name}"] = number
        figures[f"seconds_{name}"] = seconds_of(plan)
        slept = Step.objects.filter(plan=plan).values_list("started_at", "ended_at")
        figures[f"most_at_once_{name}"] = most_at_once(slept)
        figures[f"cpu_ms_per_step_total_{name}"] = observed.figures["cpu_ms_per_step_total"]
    return figures


def seconds_of(plan: ExecutionPlan) -> float:
    """From the first claim to the end of a plan that has stopped."""
    plan.refresh_from_db()
    first = Step.objects.filter(plan=plan).aggregate(at=Min("started_at"))["at"]
    return float((time_of(plan.ended_at) - first).total_seconds())
