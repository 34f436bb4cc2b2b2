"""What can be measured: each function runs one kind once on a running system and returns its figures."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise

from django.db import connection
from django.db.models import Max, Min

from dynflow_app.models import Attempt, ExecutionPlan
from dynflow_app.triggering import trigger
from project.bench import upkeep
from project.bench.actions import Chain, Family, Fan, NoOp
from project.bench.figures import median, most_at_once, percentile
from project.bench.latency import server_time, single, time_of
from project.bench.statements import Counter
from project.bench.system import System
from project.bench.usage import members, usage

Figures = dict[str, float]
SINGLES = 50
"""Plans triggered one at a time to learn the latency."""

SETTLING = 11
"""Seconds after which PostgreSQL has added up the transactions of sessions that are idle now."""


def warm_up(system: System) -> None:
    """Let every process import and connect what it needs."""
    plans = [trigger(Fan, 50).pk, trigger(Chain, 10).pk, *(trigger(NoOp).pk for _ in range(5))]
    system.wait_for(plans, pause=0.02)


def steps(system: System, count: int, counter: Counter | None) -> Figures:
    """One plan of ``count`` steps side by side."""
    _begin(counter)
    began = time.perf_counter()
    plan = trigger(Fan, count)
    planned = time.perf_counter() - began
    planning_statements = counter.total().sent if counter else None
    _begin(counter)
    looks = system.wait_for([plan.pk], pause=0.1)
    counted = _statements(counter, count, looks)
    plan.refresh_from_db()
    first = Attempt.objects.filter(step__plan=plan).aggregate(at=Min("started_at"))["at"]
    seconds = (time_of(plan.ended_at) - first).total_seconds()
    with_trigger = (time_of(plan.ended_at) - plan.created_at).total_seconds()
    return {
        "planning_and_trigger_seconds": planned,
        **({"planning_statements": planning_statements} if planning_statements is not None else {}),
        "steps_per_second": count / seconds,
        "steps_per_second_with_trigger": count / with_trigger,
        "ms_per_step": seconds * 1000 / count,
        **counted,
    }


def chain(system: System, count: int, counter: Counter | None) -> Figures:
    """One plan of ``count`` steps one after the other."""
    _begin(counter)
    plan = trigger(Chain, count)
    looks = system.wait_for([plan.pk], pause=0.1)
    counted = _statements(counter, count, looks)
    attempts = Attempt.objects.filter(step__plan=plan).order_by("started_at")
    starts = list(attempts.values_list("started_at", flat=True))
    hops = [(later - earlier).total_seconds() * 1000 for earlier, later in pairwise(starts)]
    return {"ms_per_hop_median": median(hops), "ms_per_hop_p95": percentile(hops, 95), **counted}


def plans(system: System, count: int, counter: Counter | None) -> Figures:
    """``count`` plans of one step by one client, then single ones on the idle system."""
    _begin(counter)
    since = server_time()
    began = time.perf_counter()
    ids = [trigger(NoOp).pk for _ in range(count)]
    triggering = time.perf_counter() - began
    looks = system.wait_for(ids, pause=0.1)
    counted = counter.total().sent - looks if counter else None
    last = ExecutionPlan.objects.filter(pk__in=ids).aggregate(at=Max("ended_at"))["at"]
    latencies, triggers = zip(*(single(system) for _ in range(SINGLES)), strict=True)
    return {
        "triggered_per_second": count / triggering,
        "finished_per_second": count / (last - since).total_seconds(),
        **({"statements_per_plan": counted / count} if counted is not None else {}),
        "latency_ms_median": median(latencies),
        "latency_ms_p95": percentile(latencies, 95),
        "trigger_ms_median": median(triggers),
    }


def sub_plans(system: System, count: int, counter: Counter | None) -> Figures:
    """One plan of ``count`` sub-plans with all phases, run by two workers, 50 at a time and then all at once."""
    system.add_worker()
    system.wait_for([trigger(Family, count=200, limit=None).pk], pause=0.02)
    orchestrator = system.orchestrator.pid
    figures: Figures = {}
    for name, limit in (("limited", 50), ("unlimited", None)):
        before = usage(orchestrator).resident_bytes
        _begin(counter)
        plan = trigger(Family, count=count, limit=limit)
        looks = system.wait_for([plan.pk], pause=0.1)
        counted = counter.total().sent - looks if counter else None
        plan.refresh_from_db()
        seconds = (time_of(plan.ended_at) - plan.created_at).total_seconds()
        figures[f"seconds_{name}"] = seconds
        figures[f"sub_plans_per_second_{name}"] = count / seconds
        if counted is not None:
            figures[f"statements_per_sub_plan_{name}"] = counted / count
        if limit is not None:
            children = ExecutionPlan.objects.filter(parent_step__plan=plan)
            figures[f"most_at_once_{name}"] = most_at_once(children.values_list("started_at", "ended_at"))
        figures[f"orchestrator_grew_mib_{name}"] = (usage(orchestrator).resident_bytes - before) / 2**20
    return figures


def idle(system: System, seconds: int, counter: Counter | None) -> Figures:
    """Nothing to do for ``seconds``."""
    processes = members(system.orchestrator.pid, system.worker.pid)
    time.sleep(1 if counter else SETTLING)  # whatever the warm-up left
    before = {name: usage(pid) for name, pid in processes.items()}
    transactions = _transactions()
    _begin(counter)
    began = time.perf_counter()
    time.sleep(seconds)
    elapsed = time.perf_counter() - began
    total = counter.total().sent if counter else None
    after = {name: usage(pid) for name, pid in processes.items()}
    figures: Figures = {"seconds": elapsed}
    if total is not None:
        figures["statements_per_second"] = total / elapsed
    else:
        figures["transactions_per_second"] = max(0, _transactions() - transactions) / elapsed
    for name in processes:
        figures[f"cpu_seconds_{name}"] = after[name].cpu_seconds - before[name].cpu_seconds
    for name in processes:
        figures[f"resident_mib_{name}"] = after[name].resident_bytes / 2**20
    return figures


KINDS: dict[str, Callable[[System, int, Counter | None], Figures]] = {
    "steps": steps,
    "chain": chain,
    "plans": plans,
    "sub-plans": sub_plans,
    "idle": idle,
    "cleanup": lambda system, count, counter: upkeep.cleanup(system, count),
    "lists": lambda system, count, counter: upkeep.lists(system, count),
}
DEFAULT_COUNTS = {
    "steps": [1000, 10_000],
    "chain": [500],
    "plans": [500],
    "sub-plans": [10_000],
    "idle": [20],
    "cleanup": [100_000],
    "lists": [100_000],
}


def _begin(counter: Counter | None) -> None:
    if counter:
        counter.reset()


def _statements(counter: Counter | None, count: int, own: int) -> Figures:
    """Statements of the system since ``_begin``, without the ``own`` ones that waited for it."""
    if counter is None:
        return {}
    counted = counter.total()
    return {
        "statements_per_1000_steps": (counted.sent - own) * 1000 / count,
        "transaction_statements_per_1000_steps": counted.bounds * 1000 / count,
        "key_checks_per_1000_steps": counted.checks * 1000 / count,
    }


def _transactions() -> int:
    """Transactions in this database so far; PostgreSQL adds them up with a delay."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()")
        return int(cursor.fetchone()[0])
