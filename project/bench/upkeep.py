"""Kinds about tables that are full of the past: does cleaning up slow running plans, and are lists still fast?"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from statistics import median

from django.contrib.auth import get_user_model
from django.db.models import Max, Min
from django.test import Client

from dynflow_app.models import ExecutionPlan, Step
from dynflow_app.triggering import trigger
from project.bench.actions import Fan
from project.bench.figures import Figures, percentile
from project.bench.latency import single
from project.bench.past import fill
from project.bench.system import System

ROUNDS = 5
STEPS = 10_000
SINGLES = 40
"""Plans of one step in each round, one after the other."""
LOOKS = 7
"""Times that each page is asked for; the median counts."""
PAGES = {
    "admin_list": "/admin/dynflow_app/executionplan/",
    "admin_errors": "/admin/dynflow_app/executionplan/?result__exact=error",
    "admin_live": "/admin/dynflow_app/executionplan/?state__exact=running",
    "admin_label": "/admin/dynflow_app/executionplan/?q=past+77",
    "admin_last_page": "/admin/dynflow_app/executionplan/?p={last}",
    "api_list": "/dynflow/v1/plans/",
    "api_errors": "/dynflow/v1/plans/?result=error",
    "api_live": "/dynflow/v1/plans/?state=running",
    "api_action": "/dynflow/v1/plans/?action=project.bench.actions.Past7",
    "api_ended": "/dynflow/v1/plans/?ended_after=2100-01-01T00:00:00Z",
}


def cleanup(system: System, count: int) -> Figures:
    """Steps beside ``count`` finished plans, by turns without and with a clean-up that deletes them."""
    fill(count)
    alone: list[float] = []
    beside: list[float] = []
    deleted: list[float] = []
    latencies: dict[str, list[float]] = {"alone": [], "beside": []}
    for _ in range(ROUNDS):
        alone.append(_steps_per_second(system))
        latencies["alone"] += [single(system)[0] for _ in range(SINGLES)]
        with system.beside("dynflow_cleanup", "--older-than", "30d") as process:
            before, began = _wait_for_progress(process), time.perf_counter()
            beside.append(_steps_per_second(system))
            latencies["beside"] += [single(system)[0] for _ in range(SINGLES)]
            deleted.append((before - _past()) / (time.perf_counter() - began))
            process.send_signal(signal.SIGTERM)
    rest, began = _past(), time.perf_counter()
    with system.beside("dynflow_cleanup", "--older-than", "30d", "--rest", "0") as process:
        process.wait()
    undisturbed = {"cleaned_per_second_alone": rest / (time.perf_counter() - began)} if rest else {}
    return {
        "steps_per_second_alone": median(alone),
        "steps_per_second_beside_cleanup": median(beside),
        "ratio": median(beside) / median(alone),
        "latency_ms_median_alone": median(latencies["alone"]),
        "latency_ms_median_beside": median(latencies["beside"]),
        "latency_ms_p95_alone": percentile(latencies["alone"], 95),
        "latency_ms_p95_beside": percentile(latencies["beside"], 95),
        "cleaned_per_second_beside_steps": median(deleted),
        **undisturbed,
    }


def lists(system: System, count: int) -> Figures:
    """Milliseconds of pages with ``count`` finished plans in the tables."""
    fill(count)
    client = Client(headers={"host": "localhost"})
    client.force_login(get_user_model().objects.create_superuser("bench"))
    pages = {name: path.format(last=(count - 1) // 50 + 1) for name, path in PAGES.items()}
    return {f"{name}_ms": _milliseconds(lambda path=path: _get(client, path)) for name, path in pages.items()}


def _steps_per_second(system: System) -> float:
    plan = trigger(Fan, STEPS)
    system.wait_for([plan.pk], pause=0.1)
    times = Step.objects.filter(plan=plan).aggregate(first=Min("started_at"), last=Max("ended_at"))
    return STEPS / float((times["last"] - times["first"]).total_seconds())


def _past() -> int:
    return ExecutionPlan.objects.filter(action__startswith="project.bench.actions.Past").count()


def _wait_for_progress(process: subprocess.Popen[bytes]) -> int:
    """Until the clean-up has begun; returns how many plans are left."""
    before = _past()
    while (left := _past()) == before and process.poll() is None:
        time.sleep(0.05)
    return left


def _milliseconds(deed: Callable[[], None]) -> float:
    deed()
    times = []
    for _ in range(LOOKS):
        began = time.perf_counter()
        deed()
        times.append((time.perf_counter() - began) * 1000)
    return median(times)


def _get(client: Client, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 200, (path, response.status_code)  # noqa: S101 - it measures nothing otherwise
