"""The kind about memory: remote execution on many hosts, and what every process holds afterwards."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import redis

from dynflow_app.triggering import trigger
from project.bench.columns import Column, Spread, spread
from project.bench.cpu import Tree
from project.bench.figures import Figures
from project.bench.latency import time_of
from project.bench.stage import Stage
from project.bench.usage import Usage, processes
from project.rex.actions import RunOnHosts
from project.rex.inventory import Connection, Host

QUEUES = ("default", "rex")
"""A worker for each."""
SETTINGS = {"WORKER_THREADS": 20}
"""As many as the predecessor's workers had."""
COMMAND = "echo done"

PUBLISHED = {
    0: {"redis": 10_344, "orchestrator": 445_008, "worker_default": 449_732, "worker_rex": 438_200},
    1_000: {"redis": 10_360, "orchestrator": 510_428, "worker_default": 466_376, "worker_rex": 664_128},
    10_000: {"redis": 10_348, "orchestrator": 546_368, "worker_default": 514_368, "worker_rex": 980_056},
}
"""Resident kB that Dynflow published: fresh, and after a job on so many hosts; one orchestrator, two workers."""


def hosts(stage: Stage, counts: Sequence[int], runs: int) -> list[Column]:
    """What the processes hold when they are fresh, and after a job on each number of hosts, one job after the other.

    More ``runs`` repeat the jobs; the memory is that after the last one.
    """
    columns = [Column(0, "fresh", spread([_resident(stage)]), _published(0))]
    for count in counts:
        stage.say(f"hosts {count:,}")
        found = spread([_job(stage, count) for _ in range(runs)])
        figures = spread([_resident(stage)]) | found
        columns.append(Column(count, f"{count:,}", figures, _published(count), runs))
    return columns


def _job(stage: Stage, count: int) -> Figures:
    inventory = [Host(f"host-{number}", connection=Connection.LOCAL) for number in range(count)]
    with stage.observed("host", count) as observed:
        plan = trigger(RunOnHosts, inventory, COMMAND)
        observed.own = stage.system.wait_for([plan.pk], pause=0.1)
    plan.refresh_from_db()
    seconds = (time_of(plan.ended_at) - plan.created_at).total_seconds()
    return {"seconds": seconds, "hosts_per_second": count / seconds, **observed.figures}


def _resident(stage: Stage) -> Figures:
    """Resident kB of Redis and of the processes of each role together, then of each process of workers."""
    known = processes()
    trees = {name: Tree.of(name, pid, known) for name, pid in stage.system.roots().items()}
    together = {name: _kib(one.members.values()) for name, one in trees.items()}
    each = {
        f"of_it_{member}": _kib([usage])
        for name, one in trees.items() if name != "orchestrator"
        for member, usage in one.members.items()
    }  # fmt: skip
    named = {"redis": _redis_kib(stage.redis_url), **together, **each}
    return {f"resident_kib_{name}": value for name, value in named.items()}


def _kib(usages: Iterable[Usage]) -> float:
    return sum(usage.resident_bytes for usage in usages) / 1024


def _redis_kib(url: str) -> float:
    with redis.Redis.from_url(url) as client:
        return float(client.info("memory")["used_memory_rss"]) / 1024


def _published(count: int) -> dict[str, dict[str, Spread]]:
    known = {f"resident_kib_{name}": float(value) for name, value in PUBLISHED.get(count, {}).items()}
    return {"Dynflow, published": spread([known])} if known else {}
