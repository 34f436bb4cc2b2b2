"""The benchmark command works and prints what it promises; no test looks at how fast anything was."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import Any

import pytest

from project.bench import report
from project.bench.figures import percentile
from tests.support import REPOSITORY

EXPECTED = {
    "steps": {
        "planning_and_trigger_seconds",
        "steps_per_second",
        "steps_per_second_with_trigger",
        "relative_cost_per_step",
    },
    "chain": {"ms_per_hop_median", "ms_per_hop_p95"},
    "plans": {"triggered_per_second", "finished_per_second", "latency_ms_median", "latency_ms_p95"},
    "lists": {"admin_list_ms", "admin_last_page_ms", "api_list_ms", "api_errors_ms"},
    "idle": {"seconds", "cpu_seconds_child", "resident_mib_supervisor"},
}
COUNTS = {"steps": ["5", "10"], "chain": ["4"], "plans": ["3"], "idle": ["1"], "lists": ["60"]}
LIMITS = {
    "steps": {"steps_per_second", "steps_per_second_by_20"},
    "chain": {"ms_per_hop_median", "ms_per_hop_p95"},
    "plans": {"triggered_per_second"},
    "idle": set(),
    "lists": set(),
}


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


@pytest.mark.parametrize("kind", EXPECTED)
@pytest.mark.servers
@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.timeout(180)
def test_measures_each_kind(kind: str) -> None:
    process = start(kind, "--count", *COUNTS[kind], "--json")
    output, progress = process.communicate(timeout=170)

    assert process.returncode == 0, progress
    document = json.loads(output)
    assert document["kind"] == kind
    assert {"python", "django", "postgresql", "valkey", "cores", "commit_ms"} <= document["environment"].keys()
    assert [str(run["count"]) for run in document["runs"]] == COUNTS[kind]
    for run in document["runs"]:
        assert EXPECTED[kind] <= run["figures"].keys()
        assert all(value >= 0 for value in run["figures"].values())
    if kind in ("steps", "chain"):
        assert document["statements_counted_by"] in ("server", "pump")
        assert document["runs"][-1]["figures"]["statements_per_1000_steps"] > 0
    if kind == "idle":
        figures = document["runs"][0]["figures"]
        assert {"statements_per_second", "transactions_per_second"} & figures.keys()
    assert document["limit"]["figures"].keys() == LIMITS[kind]
    assert "warming up" in progress


@pytest.mark.servers
@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.timeout(180)
def test_interrupt_stops_everything() -> None:
    psutil = pytest.importorskip("psutil")
    process = start("idle", "--count", "600", "--json")
    assert process.stderr is not None
    while "idle 600" not in process.stderr.readline():
        assert process.poll() is None
    running = psutil.Process(process.pid).children(recursive=True)
    assert len(running) >= 5  # the part that measures, orchestrator, rqworker, supervisor, child

    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)

    assert process.returncode == 130
    _, alive = psutil.wait_procs(running, timeout=20)
    assert not alive


@pytest.mark.parametrize(
    ("arguments", "message"), [(("chain", "--count", "1"), "at least 2"), (("nothing",), "invalid choice")]
)
def test_refuses_nonsense(arguments: tuple[str, ...], message: str) -> None:
    process = start(*arguments)
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert message in errors


def test_table_is_aligned() -> None:
    about = dict.fromkeys(("python", "django", "postgresql", "valkey", "cores"), "1")
    document: dict[str, Any] = {
        "kind": "steps",
        "environment": {**about, "commit_ms": 0.5},
        "statements_counted_by": "server",
        "runs": [
            {"count": 1000, "figures": {"steps_per_second": 1234.5}},
            {"count": 10, "figures": {"ms_per_step": 0.5}},
        ],
        "limit": {"figures": {"steps_per_second": 9999.0}},
    }
    lines = report.text(document).splitlines()
    table = lines[2:5]
    assert len({len(line) for line in table[:2]}) == 1
    assert table[0].split() == ["1,000", "10", "SQL", "limit"]
    assert table[1].endswith("1,234     -      9,999")
    assert "-  0.50" in table[2]


def test_percentile_is_a_value_that_occurred() -> None:
    values = [float(number) for number in range(100)]
    assert percentile(values, 95) == 95.0
    assert percentile([7.0], 95) == 7.0
