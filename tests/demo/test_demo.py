"""The demo as people start it: it ends well, keeps its promises and leaves nothing running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support import REPOSITORY, wait_until

SWITCHES = ("KILL", "SERVE", "LOOK", "TINY", "NO_COLOR")
TIMEOUT = 100.0

pytestmark = [pytest.mark.processes, pytest.mark.slow]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A folder for the demo, in which nothing may be left running."""
    folder = tmp_path / "demo"
    yield folder
    left = of_demo(folder)
    for process in left:
        process.kill()
    assert left == []


def of_demo(home: Path) -> list[psutil.Process]:
    """The processes that work in ``home``."""
    found = []
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), process.environ().get("DYNFLOW_HOME", "")]
            is_running = process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:  # it has ended meanwhile
            continue
        if is_running and any(str(home) in word for word in words):
            found.append(process)
    return found


def start(home: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start the demo, its output in a pipe."""
    return subprocess.Popen(
        [sys.executable, "-m", "project.demo", "--home", str(home), *arguments],
        cwd=REPOSITORY,
        env={name: value for name, value in os.environ.items() if name not in SWITCHES},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def run(home: Path, *arguments: str) -> tuple[int, str]:
    """Run the demo to its end."""
    process = start(home, *arguments)
    output, _ = process.communicate(timeout=TIMEOUT)
    return process.returncode, output


@pytest.mark.servers
def test_all_hosts_succeed(home: Path) -> None:
    code, output = run(home, "--limit", "db")
    assert code == 0, output
    assert "2 workers, 2 orchestrators (1 active, 1 standby)" in output
    assert "hosts: 21 succeeded" in output
    assert "commands that ran: 21, run twice: 0" in output
    assert "workers lost: 0, orchestrator hand-overs: 0" in output
    assert "/admin/" in output
    assert "\x1b" not in output


@pytest.mark.servers
def test_a_killed_worker_and_leader_cost_at_most_some_hosts(home: Path) -> None:
    code, output = run(home, "--kill", "--limit", "web_branch")
    assert code == 0, output
    assert "killed worker-1" in output
    assert "which was leading" in output
    assert "workers lost: 1, orchestrator hand-overs: 1" in output
    assert "run twice: 0" in output


def test_tiny_needs_no_servers(home: Path) -> None:
    code, output = run(home, "--tiny", "--kill", "--ascii", "--limit", "queue")
    assert code == 0, output
    assert "nothing is killed" in output
    assert "hosts: 9 succeeded" in output
    assert output.isascii()
    assert not (home / "postgres").exists()


@pytest.mark.servers
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_everything(home: Path, number: signal.Signals) -> None:
    process = start(home)
    wait_until(lambda: list(home.glob("ran-*.txt")), timeout=60, describe="the first command")
    process.send_signal(number)
    output, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 128 + number, output
    assert "interrupted" in output


@pytest.mark.servers
def test_killed_without_warning_it_leaves_nothing(home: Path) -> None:
    process = start(home)
    wait_until(lambda: list(home.glob("ran-*.txt")), timeout=60, describe="the first command")
    process.kill()
    process.communicate(timeout=TIMEOUT)
    wait_until(lambda: not of_demo(home), describe="everything to end")


def test_a_wrong_pattern_starts_nothing(home: Path) -> None:
    code, output = run(home, "--limit", "nowhere")
    assert code == 1
    assert "Nothing was started." in output
    assert "Traceback" not in output


@pytest.mark.servers
def test_a_process_that_ends_by_itself_is_explained_with_its_log(home: Path) -> None:
    process = start(home)
    wait_until(lambda: list(home.glob("ran-*.txt")), timeout=60, describe="the first command")
    next(each for each in of_demo(home) if "dynflow_orchestrator" in each.cmdline()).kill()
    output, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 1
    assert "--- the last lines of orchestrator-1" in output
    assert "ended unexpectedly" in output
    assert "The full logs are in" in output


def test_an_unexpected_error_is_explained(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOG_LEVEL", "NONSENSE")
    code, output = run(home, "--tiny", "--limit", "queue")
    assert code == 1
    assert "unexpected: ValueError" in output
