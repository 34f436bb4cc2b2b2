"""CPU seconds of everything that takes part: this process, the system's processes, PostgreSQL, and Redis."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

import redis
from django.db import connection

from project.bench.figures import Figures
from project.bench.usage import Usage, processes, tree

CLIENT = "client"
"""This process, which triggers and waits."""
POSTGRESQL = "postgresql"
"""All processes of the server, those that ended included."""
REDIS = "redis"
ENDED = "ended"
"""What children used that have ended since, such as replaced ones, or commands."""
NOTICED = 0.015
"""Seconds below which the clock of the system cannot tell a use from none."""


@dataclass(frozen=True, slots=True)
class Tree:
    """A process with all below it, at one moment."""

    members: dict[str, Usage]
    """By what they do."""
    total: float
    """CPU seconds of all of them, and of those that ended before."""

    @classmethod
    def of(cls, name: str, root: int, known: dict[int, Usage]) -> Tree:
        """The tree of process `root`, which is called `name`."""
        generations = tree(root, known)
        everybody = [usage for generation in generations for usage in generation]
        names = [name, f"{name}_supervisor"]
        members = {
            f"{role}_{number}" if number > 1 else role: usage
            for role, generation in zip(names, generations, strict=False)
            for number, usage in enumerate(generation, 1)
        }
        below = [usage for generation in generations[2:] for usage in generation]
        members |= {f"{name}_child_{number}": usage for number, usage in enumerate(below, 1)}
        return cls(members, sum(usage.cpu_seconds + usage.reaped_seconds for usage in everybody))

    def since(self, before: Tree, name: str) -> Figures:
        """CPU seconds of each member; those of members that have ended in between under a name of their own."""
        earlier = {usage.pid: usage.cpu_seconds for usage in before.members.values()}
        spent = {member: usage.cpu_seconds - earlier.get(usage.pid, 0.0) for member, usage in self.members.items()}
        rest = self.total - before.total - sum(spent.values())
        return {**spent, f"{name}_{ENDED}": rest} if rest > NOTICED else spent


class Meter:
    """Reads the clocks."""

    def __init__(self, roots: Mapping[str, int], redis_url: str) -> None:
        """`roots` are the processes of the system by name; Redis is asked itself."""
        self._roots = dict(roots)
        self._redis = redis.Redis.from_url(redis_url)
        self._postmaster = postmaster()

    def read(self) -> Reading:
        """What everybody has used so far."""
        known = processes()
        trees = {name: Tree.of(name, pid, known) for name, pid in self._roots.items()}
        single = {CLIENT: known[os.getpid()].cpu_seconds, REDIS: self._redis_seconds()}
        if self._postmaster is not None:
            single[POSTGRESQL] = Tree.of(POSTGRESQL, self._postmaster, known).total
        return Reading(trees, single)

    def _redis_seconds(self) -> float:
        about = self._redis.info("cpu")
        return float(about["used_cpu_user"]) + float(about["used_cpu_sys"])


@dataclass(frozen=True, slots=True)
class Reading:
    """All clocks at one moment."""

    trees: dict[str, Tree]
    single: dict[str, float]

    def since(self, before: Reading) -> Figures:
        """CPU seconds of each process since then."""
        spent = {CLIENT: self.single[CLIENT] - before.single[CLIENT]}
        for name, one in self.trees.items():
            spent |= one.since(before.trees[name], name) if name in before.trees else {}
        return spent | {
            name: self.single[name] - before.single[name] for name in (POSTGRESQL, REDIS) if name in self.single
        }


def per_unit(spent: Figures, unit: str, count: int) -> Figures:
    """CPU milliseconds per step, hop or plan, and their sum."""
    figures = {f"cpu_ms_per_{unit}_{name}": seconds * 1000 / count for name, seconds in spent.items()}
    return {**figures, f"cpu_ms_per_{unit}_total": sum(figures.values())}


def postmaster() -> int | None:
    """The process id of PostgreSQL; None if the server runs on another machine."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid(), inet_server_addr() IS NULL OR inet_server_addr() = inet_client_addr()")
        pid, is_here = cursor.fetchone()
    backend = processes().get(pid)
    return backend.parent if is_here and backend is not None else None
