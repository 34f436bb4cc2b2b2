"""One run from start to end: the part that starts the place, and the part that measures in it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from dynflow_app.models import ExecutionPlan, Step
from dynflow_app.triggering import trigger
from project.bench import limit, report
from project.bench.actions import Chain, Fan
from project.bench.kinds import KINDS, Figures, warm_up
from project.bench.places import fresh_database
from project.bench.statements import Counter, by_server, count_in_pump
from project.bench.system import System
from project.manage_process import REPOSITORY

Say = Callable[[str], object]
PUMPED = 200
"""Steps of the plan whose statements are counted here if the server cannot."""


def in_fresh_place(arguments: Sequence[str]) -> int:
    """Run ``manage.py dynflow_bench ARGUMENTS`` on a database of its own; returns the exit code."""
    signal.signal(signal.SIGTERM, _interrupt)
    with fresh_database() as environ:
        process = subprocess.Popen(
            [sys.executable, str(REPOSITORY / "manage.py"), "dynflow_bench", *arguments],
            env=environ,
            start_new_session=True,  # Ctrl-C reaches this process, which passes it on and waits
        )
        try:
            return process.wait()
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.wait()


def measure(kind: str, counts: Sequence[int], say: Say) -> dict[str, Any]:
    """Measure on the database and Redis of the settings; returns the document."""
    signal.signal(signal.SIGTERM, _interrupt)
    runs = []
    with System(Path(os.environ["DYNFLOW_HOME"])) as system:
        counter = Counter() if by_server() else None
        say("warming up")
        warm_up(system)
        for count in counts:
            say(f"{kind} {count}")
            runs.append({"count": count, "figures": KINDS[kind](system, count, counter)})
            if counter:
                runs[-1]["dearest_statements"] = counter.dearest()
        counted_by = "server" if counter else "none"
        if counter is None and kind in ("steps", "chain"):
            say("counting statements in this process")
            runs[-1]["figures"].update(_pumped(system, Fan if kind == "steps" else Chain))
            counted_by = "pump"
    say("the SQL limit")
    if counter:
        counter.reset()
    limits = {"figures": _limit(kind, counts[-1]), "dearest_statements": counter.dearest() if counter else []}
    _compare([run["figures"] for run in runs])
    about = {**report.environment(os.environ["REDIS_URL"]), "commit_ms": limit.commit()}
    return {
        "kind": kind, "environment": about, "statements_counted_by": counted_by, "runs": runs,
        "limit": limits,
    }  # fmt: skip


def _limit(kind: str, count: int) -> Figures:
    if kind == "steps":
        slower = limit.steps(min(count, 2000), 20)["steps_per_second"]
        return {**limit.steps(count, 100), "steps_per_second_by_20": slower}
    if kind == "chain":
        return limit.chain(count)
    return limit.plans(count) if kind == "plans" else {}


def _compare(runs: Sequence[Figures]) -> None:
    for figures in runs:
        if "ms_per_step" in figures and len(runs) > 1:
            figures["relative_cost_per_step"] = figures["ms_per_step"] / runs[0]["ms_per_step"]


def _pumped(system: System, action: type[Fan | Chain]) -> Figures:
    """Statements of a pump in this process, while only the orchestrator runs beside it."""
    system.stop_worker()
    plan = trigger(action, PUMPED)
    deadline = time.monotonic() + 30
    while not Step.objects.filter(plan=plan, state="ready").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    counted = count_in_pump()
    system.wait_for([plan.pk], pause=0.05)
    ExecutionPlan.objects.filter(pk=plan.pk).delete()
    return {"statements_per_1000_steps": counted * 1000 / PUMPED}


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
