"""The benchmark command works and prints what it promises; no test looks at how fast anything was."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.support import REPOSITORY

CPU = {"client", "orchestrator", "worker", "worker_supervisor", "worker_child_1", "postgresql", "redis", "total"}
EXPECTED = {
    "steps": {
        "planning_and_trigger_seconds",
        "steps_per_second",
        "steps_per_second_with_trigger",
        "relative_cost_per_step",
        "share_of_straight",
        "cpu_times_lean",
        *(f"cpu_ms_per_step_{process}" for process in CPU),
    },
    "chain": {"ms_per_hop_median", "share_of_lean", *(f"cpu_ms_per_hop_{process}" for process in CPU)},
    "plans": {"triggered_per_second", "finished_per_second", "latency_ms_median", "cpu_ms_per_plan_total"},
    "sleep": {"seconds_coroutines", "seconds_threads", "most_at_once_threads"},
    "lists": {"admin_list_ms", "admin_last_page_ms", "api_list_ms", "api_errors_ms"},
    "idle": {"seconds", "cpu_seconds_worker_child_1", "resident_mib_worker_supervisor"},
    "fair": {"steps_per_second_of_the_large_beside", "latency_ms_median_of_small", "latency_ms_max_of_small"},
}
COUNTS = {
    "steps": ["5", "10"],
    "chain": ["4"],
    "plans": ["3"],
    "sleep": ["10"],
    "idle": ["1"],
    "lists": ["60"],
    "fair": ["300"],
}
LIMITS = {
    "steps": {"steps_per_second", "steps_per_second_by_20", "cpu_ms_per_step_postgresql"},
    "chain": {"ms_per_hop_median", "ms_per_hop_p95", "cpu_ms_per_hop_client"},
    "plans": {"triggered_per_second", "cpu_ms_per_plan_total"},
}
HISTORY = {"commit_ms", "steps_per_second", "ms_per_hop_median", "triggered_per_second", "cpu_ms_per_step_total"}
ROLES = ("redis", "orchestrator", "worker_default", "worker_rex")


def start(*arguments: str) -> subprocess.Popen[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.Popen(
        [sys.executable, str(REPOSITORY / "manage.py"), "dynflow_bench", *arguments],
        env={**environ, "DJANGO_SETTINGS_MODULE": "project.settings.test"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def measured(kind: str, *arguments: str) -> dict[str, object]:
    """The document of a run."""
    process = start(kind, *arguments, "--json")
    output, progress = process.communicate(timeout=170)
    assert process.returncode == 0, progress
    document: dict[str, object] = json.loads(output)
    assert document["kind"] == kind
    return document


def columns_of(document: dict[str, object]) -> list[dict[str, object]]:
    columns = document["columns"]
    assert isinstance(columns, list)
    for column in columns:
        for figure in column["figures"].values():
            assert 0 <= figure["min"] <= figure["median"] <= figure["max"]
    return columns


@pytest.mark.parametrize("kind", EXPECTED)
@pytest.mark.servers
@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.timeout(180)
def test_measures_each_kind(kind: str) -> None:
    document = measured(kind, "--count", *COUNTS[kind], "--runs", "1")

    environment = document["environment"]
    assert isinstance(environment, dict)
    assert {"python", "django", "postgresql", "valkey", "cores", "commit_ms"} <= environment.keys()
    columns = columns_of(document)
    assert [str(column["count"]) for column in columns] == COUNTS[kind]
    for column in columns:
        assert EXPECTED[kind] <= column["figures"].keys()
        assert set(column["beside"]) == ({"straight limit", "lean limit"} if kind in LIMITS else set())
        assert all(LIMITS[kind] <= limit.keys() for limit in column["beside"].values())
    if kind in ("steps", "chain") and document["statements_counted_by"] == "server":
        unit = {"steps": "steps", "chain": "hops"}[kind]
        assert columns[-1]["figures"][f"statements_per_1000_{unit}"]["median"] > 0
    if kind == "idle":
        assert {"statements_per_second", "transactions_per_second"} & columns[0]["figures"].keys()
    if kind == "sleep":
        figures = columns[0]["figures"]
        assert figures["most_at_once_coroutines"]["median"] == figures["steps_coroutines"]["median"] == 10
        assert figures["seconds_coroutines"]["median"] >= 1


@pytest.mark.servers
@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.timeout(180)
def test_history_is_measured_in_empty_and_in_full_tables() -> None:
    empty, full, ratio = columns_of(measured("history", "--count", "60", "--runs", "1"))

    assert [column["title"] for column in (empty, full, ratio)] == ["empty", "60 past", "ratio"]
    for column in (empty, full, ratio):
        assert column["figures"].keys() >= HISTORY
    for name in HISTORY:
        before, after = (column["figures"][name]["median"] for column in (empty, full))
        assert ratio["figures"][name]["median"] == pytest.approx(after / before)


@pytest.mark.servers
@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.timeout(180)
def test_memory_of_every_process_before_and_after_hosts(tmp_path: Path) -> None:
    picture = tmp_path / "hosts.svg"
    fresh, after = columns_of(measured("hosts", "--count", "3", "--svg", str(picture)))

    for column in (fresh, after):
        # a worker is a process that waits, one that supervises, and one that works
        for role in ROLES:
            assert column["figures"][f"resident_kib_{role}"]["median"] > 1000
        parts = [figure["median"] for name, figure in column["figures"].items() if "of_it_worker_rex" in name]
        assert len(parts) >= 3
        assert sum(parts) == pytest.approx(column["figures"]["resident_kib_worker_rex"]["median"])
    assert after["figures"]["hosts_per_second"]["median"] > 0
    # three hosts were no measurement of others
    assert set(fresh["beside"]) == {"Dynflow, published"}
    assert after["beside"] == {}
    assert ET.parse(picture).getroot().tag == "{http://www.w3.org/2000/svg}svg"  # noqa: S314 - ours


@pytest.mark.servers
@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.timeout(180)
def test_interrupt_stops_everything() -> None:
    psutil = pytest.importorskip("psutil")
    process = start("idle", "--count", "600", "--json")
    assert process.stderr is not None
    while "idle: 600" not in process.stderr.readline():
        assert process.poll() is None
    running = psutil.Process(process.pid).children(recursive=True)
    assert len(running) >= 5  # the part that measures, orchestrator, rqworker, supervisor, child

    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)

    assert process.returncode == 130
    _, alive = psutil.wait_procs(running, timeout=20)
    assert not alive


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("chain", "--count", "1"), "at least 2"),
        (("steps", "--runs", "0"), "at least 1"),
        (("nothing",), "invalid choice"),
    ],
)
def test_refuses_nonsense(arguments: tuple[str, ...], message: str) -> None:
    process = start(*arguments)
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert message in errors
