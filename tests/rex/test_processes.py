"""Commands of real workers, on this machine and through SSH: what is cancelled is dead, what is killed is known."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dynflow_app import control
from dynflow_app.models import ExecutionPlan
from dynflow_app.triggering import trigger
from project.rex.actions import RunOnHosts
from project.rex.inventory import Connection, Host
from project.rex.models import HostResult, Report
from tests.rex.helpers import gone
from tests.rex.ssh_server import RunningServer, ssh_server
from tests.support import Processes, wait_until

pytestmark = [pytest.mark.processes, pytest.mark.slow]

SETTINGS = json.dumps({"EXECUTOR": "in-process", "HEARTBEAT_INTERVAL": 0.3, "WORLD_TIMEOUT": 1.5})


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    """An SSH server in a thread of its own."""
    loop, started, stopping = asyncio.new_event_loop(), threading.Event(), asyncio.Event()
    found: list[RunningServer] = []

    async def serve() -> None:
        async with ssh_server(tmp_path) as running:
            found.append(running)
            started.set()
            await stopping.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert started.wait(10)
    yield found[0]
    loop.call_soon_threadsafe(stopping.set)
    thread.join()
    loop.close()


def test_cancelling_the_plan_kills_its_commands_here_and_there(
    processes: Processes, server: RunningServer, tmp_path: Path
) -> None:
    # given a command with a child process of its own, on a local host and on one through SSH
    processes.manage("dynflow_executor", DYNFLOW_SETTINGS=SETTINGS)
    hosts = [Host("here", connection=Connection.LOCAL), server.host()]
    here = f"{tmp_path}/pids-$REX_HOST"
    plan = trigger(RunOnHosts, hosts, f"sleep 60 & echo $! $$ > {here}.new; mv {here}.new {here}; wait")
    files = [tmp_path / "pids-here", tmp_path / "pids-loopback"]
    wait_until(lambda: all(file.exists() for file in files), describe="both commands run")

    # when the plan is cancelled, not its sub-plans
    control.cancel(plan, by="ada")

    # then all four processes are gone, and the report says so
    assert plan.wait(timeout=20).result == "cancelled"
    for file in files:
        assert all(gone(int(pid)) for pid in file.read_text().split())
    assert "TERM" in server.signals
    wait_until(lambda: Report.objects.get(plan_id=plan.pk).counts == {"cancelled": 2}, describe="the report")


def test_a_worker_killed_in_the_middle_leaves_its_host_to_a_person(processes: Processes, tmp_path: Path) -> None:
    # given a command that runs
    executor = processes.manage("dynflow_executor", DYNFLOW_SETTINGS=SETTINGS)
    hosts = [Host(name, connection=Connection.LOCAL) for name in ("short", "long")]
    ran = tmp_path / "ran"
    command = f"echo $REX_HOST $$ >> {ran}; test $REX_HOST = short || exec sleep 60"
    plan = trigger(RunOnHosts, hosts, command)
    wait_until(lambda: HostResult.objects.filter(host="short", status="succeeded").exists(), describe="the short one")
    wait_until(lambda: "long" in ran.read_text(), describe="the long one")

    # when the worker is killed, and another comes
    executor.kill()
    processes.manage("dynflow_executor", DYNFLOW_SETTINGS=SETTINGS)
    plan.wait(timeout=30)

    # then the command did not run again: its sub-plan is paused, and so is the plan
    assert plan.state == "paused"
    assert dict(ExecutionPlan.objects.filter(parent_step__plan=plan).values_list("label", "state")) == {
        "short": "stopped",
        "long": "paused",
    }
    assert len(ran.read_text().splitlines()) == 2
