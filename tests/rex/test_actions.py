"""The plan of a command on many hosts, its steps and its report."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dynflow_app.actions.base import bind
from dynflow_app.actions.context import ActionRecord
from project.rex.actions import RunOnHost, RunOnHosts, environment_of
from project.rex.inventory import Connection, Host
from project.rex.models import Report
from tests.rex.scripted import Call, RecordingPlan, RecordingRun

HOSTS = [Host(f"h{number}", ("web",), {"site": "lab"}, Connection.LOCAL) for number in (1, 2)]


def planned(**arguments: Any) -> list[Call]:
    """Return what ``RunOnHosts`` plans."""
    context = RecordingPlan()
    bind(RunOnHosts, 1, context).plan(HOSTS, **arguments)  # type: ignore[arg-type]
    return context.calls


def run_on_host(host: Host, command: str) -> RecordingRun:
    """Run the step of one host and return its context."""
    values = {"host": host.as_input(), "command": command, "script": False, "time_limit": 5}
    context = RecordingRun(values)
    asyncio.run(bind(RunOnHost, 2, context).run())  # type: ignore[attr-defined]
    return context


def record(name: str, state: str, output: dict[str, Any], error: Any = None) -> ActionRecord:
    """Return a host's step as the ledger has it."""
    return ActionRecord(2, "project.rex.actions.RunOnHost", {"host": {"name": name}}, output, state, error)


def test_one_step_for_each_host_and_one_report() -> None:
    calls = planned(command="uptime", time_limit=5)

    assert [action for action, _ in calls] == [RunOnHost, RunOnHost, RunOnHosts]
    assert [values["host"]["name"] for _, values in calls[:2]] == ["h1", "h2"]
    assert calls[0][1]["time_limit"] == 5
    assert calls[2][1] == {"command": "uptime"}


def test_a_command_that_no_shell_could_run_is_refused_when_planned() -> None:
    with pytest.raises(ValueError, match="empty"):
        planned(command=" ")


def test_a_step_puts_the_result_into_its_output_and_the_output_into_its_log() -> None:
    context = run_on_host(HOSTS[0], "echo $REX_HOST $REX_SITE; sleep 0.05; printf 'a\\nb\\n' >&2; exit 3")

    assert context.chunks == ["h1 lab\n", "stderr: a\nstderr: b\n"]
    assert context.output.pop("seconds") > 0
    assert context.output == {"status": "failed", "exit_code": 3, "error": "b"}


def test_an_unreachable_host_is_an_answer_and_no_error() -> None:
    host = Host("h", connection=Connection.SSH, known_hosts="/nowhere/known_hosts")

    context = run_on_host(host, "true")

    assert context.output["status"] == "unreachable"


def test_a_command_knows_its_host() -> None:
    variables = {"site": "lab", "ok": True, "n": 3, "list": [1], "a-b": 1, "nul": "\0", "none": None}

    assert environment_of(Host("h", ("a", "b"), variables)) == {
        "REX_HOST": "h",
        "REX_GROUPS": "a,b",
        "REX_SITE": "lab",
        "REX_OK": "true",
        "REX_N": "3",
        "REX_NUL": "",
    }


@pytest.mark.django_db
def test_the_report_counts_hosts_and_is_written_once() -> None:
    output = {"status": "succeeded", "exit_code": 0, "seconds": 0.5, "error": ""}
    records = [
        record("h1", "success", output),
        record("h2", "success", {**output, "status": "unreachable", "error": "refused"}),
        record("h3", "skipped", {}, {"message": "its worker vanished"}),
        record("h4", "skipped", {}),
    ]
    for _ in range(2):
        context = RecordingRun({"command": "uptime\nx"}, records=records)
        bind(RunOnHosts, 1, context).finalize()  # type: ignore[attr-defined]

    report = Report.objects.get()
    assert context.output == {"hosts": 4, "counts": report.counts}
    assert report.counts == {"succeeded": 1, "unreachable": 1, "lost": 2}
    assert [result["host"] for result in report.results] == ["h1", "h2", "h3", "h4"]
    assert report.results[2]["error"] == "its worker vanished"
    assert "outcome is unknown" in report.results[3]["error"]
    assert not report.all_succeeded
    assert str(report) == "uptime on 4 hosts"
