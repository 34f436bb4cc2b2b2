"""What can be measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from project.bench import upkeep
from project.bench.columns import Column
from project.bench.fair import fair
from project.bench.figures import Figures
from project.bench.history import history
from project.bench.hosts import QUEUES, SETTINGS, hosts
from project.bench.idle import idle
from project.bench.limits import working
from project.bench.limits.design import Design
from project.bench.rounds import Rival, by_count
from project.bench.running import chain, plans, sleep, steps, sub_plans
from project.bench.stage import Stage

SHORT_RUNS = 3
"""Runs of a kind that takes seconds, unless told otherwise."""

MEMORY = ("resident_kib_redis", "resident_kib_orch", "resident_kib_worker", "hosts_per", "cpu_ms_per_host_")
"""Figures of the picture about hosts."""

Measure = Callable[[Stage, Sequence[int], int], list[Column]]
"""Measures counts in several runs."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of measurement."""

    measure: Measure
    counts: list[int]
    """Unless told otherwise."""
    about: str
    """For the help."""
    runs: int = 1
    """Unless told otherwise."""
    queues: tuple[str, ...] = ("default",)
    """A worker for each."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Of the processes, beside the defaults."""
    warms_up: bool = True
    """Whether some plans run before anything is measured."""
    plotted: tuple[str, ...] = ()
    """Figures of the picture, by the beginnings of their names; others stay in the table."""


def _kind(
    run: Callable[[Stage, int], Figures],
    counts: list[int],
    about: str,
    *,
    runs: int = 1,
    limit: Callable[[Design, int], Figures] | None = None,
    compared: str = "",
    unit: str = "",
    plotted: tuple[str, ...] = (),
) -> Kind:
    rival = Rival(limit, compared, f"cpu_ms_per_{unit}_total" if unit else "") if limit else None
    return Kind(by_count(run, rival), counts, about, runs=runs, plotted=plotted)


KINDS: dict[str, Kind] = {
    "steps": _kind(
        steps, [1000, 10_000], "a plan of N steps side by side",
        runs=SHORT_RUNS, limit=working.steps, compared="steps_per_second", unit="step",
        plotted=("steps_per_second", "planning_and", "cpu_ms_per_planned_step_", "cpu_ms_per_step_"),
    ),
    "chain": _kind(
        chain, [500], "N steps one after the other",
        runs=SHORT_RUNS, limit=working.chain, compared="ms_per_hop_median", unit="hop",
        plotted=("ms_per_hop", "cpu_ms_per_hop_"),
    ),
    "plans": _kind(
        plans, [500], "N plans of one step",
        runs=SHORT_RUNS, limit=working.plans, compared="triggered_per_second",
        plotted=("triggered_", "finished_", "latency_", "trigger_ms", "cpu_ms_per_plan_"),
    ),
    "sub-plans": _kind(
        sub_plans, [10_000], "a plan of N sub-plans",
        plotted=("sub_plans_per",),
    ),
    "sleep": _kind(
        sleep, [1000], "N steps that sleep for 1 s in coroutines, a tenth in threads",
        runs=SHORT_RUNS, plotted=("seconds_", "most_at_once"),
    ),
    "idle": _kind(
        idle, [20], "nothing for N seconds", plotted=("statements_per_second", "cpu_seconds_", "resident_mib_"),
    ),
    "hosts": Kind(
        hosts, [1000, 10_000], "remote execution on N hosts, and the memory of each process afterwards",
        queues=QUEUES, settings=SETTINGS, warms_up=False, plotted=MEMORY,
    ),
    "history": Kind(
        history, [1_000_000], "steps, chains and plans in empty tables, then beside N finished plans",
        runs=SHORT_RUNS, plotted=("steps_per_second", "ms_per_hop", "triggered_", "finished_", "latency_"),
    ),
    "fair": _kind(
        fair, [100_000], "plans of one step while a plan of N steps runs",
        plotted=("steps_per_second", "latency_"),
    ),
    "cleanup": _kind(
        lambda stage, count: upkeep.cleanup(stage.system, count), [100_000],
        "steps beside N old plans, without and with a clean-up of them", plotted=("steps_per", "latency_"),
    ),
    "lists": _kind(
        lambda stage, count: upkeep.lists(stage.system, count), [100_000],
        "pages of the admin and the API with N old plans", plotted=("admin_", "api_"),
    ),
}  # fmt: skip
