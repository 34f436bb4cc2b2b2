"""``manage.py rex``: exit codes, what goes where, and plans that need help on their way."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from dynflow_app import control
from dynflow_app.models import ExecutionPlan, HistoryEntry
from project.rex.actions import RunOnHost, RunOnHosts
from project.rex.following import Follower
from project.rex.management.commands import rex
from project.rex.models import Report
from project.rex.presentation import ProgressDisplay
from tests.engine import Engine
from tests.rex.scripted import Turns

INVENTORY = "[web]\nh[1:3] connection=local\n"

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    """Three local hosts."""
    path = tmp_path / "inventory.ini"
    path.write_text(INVENTORY)
    return path


@pytest.fixture
def turns(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Turns:
    """The engine takes turns with the command, whose follower sleeps meanwhile."""
    driven = Turns(engine)

    def follower(plan: ExecutionPlan, display: ProgressDisplay, timeout: float | None) -> Follower:
        return Follower(plan, display, timeout, driven.clock, driven.sleep)

    monkeypatch.setattr(rex, "Follower", follower)
    return driven


def call(*arguments: object) -> tuple[int, str, str]:
    """Call the command and return exit code, standard output and standard error."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    try:
        call_command("rex", *map(str, arguments), stdout=out, stderr=err)
    except SystemExit as leaving:
        code = int(leaving.code or 0)
    except CommandError as error:
        code = error.returncode
        err.write(str(error))
    return code, out.getvalue(), err.getvalue()


def test_all_hosts_succeed(inventory: Path, turns: Turns) -> None:
    code, out, err = call("run", "--inventory", inventory, "--command", "echo hi")

    assert code == 0
    assert out.splitlines()[-1] == "3 succeeded"
    assert f"plan {Report.objects.get().plan_id} on 3 hosts" in err


def test_some_hosts_fail(inventory: Path, turns: Turns) -> None:
    command = "test $REX_HOST != h2 || exit 9"

    code, out, _ = call("run", "--inventory", inventory, "--limit", "!h3", "--command", command)

    assert code == 4
    assert "h2    failed     9" in out
    assert out.splitlines()[-1] == "1 succeeded, 1 failed"


def test_json_is_one_document(inventory: Path, turns: Turns) -> None:
    arguments = ("--inventory", inventory, "--command", "true", "--json", "--time-limit", "5")

    code, out, _ = call("run", *arguments)

    document = json.loads(out)
    assert code == 0
    assert document["plan_id"] == str(Report.objects.get().plan_id)
    assert document["counts"] == {"succeeded": 3}
    assert [line["host"] for line in document["results"]] == ["h1", "h2", "h3"]


def test_a_script_from_a_file(inventory: Path, turns: Turns, tmp_path: Path) -> None:
    script = tmp_path / "check.sh"
    script.write_text("test $REX_HOST = h1 || exit 7\n")

    code, out, _ = call("run", "--inventory", inventory, "--script", script)

    assert (code, out.splitlines()[-1]) == (4, "1 succeeded, 2 failed")
    assert ExecutionPlan.objects.get(parent_step=None).label == f"{script} on 3 hosts"


def test_hosts_whose_worker_died_are_lost_and_the_rest_goes_on(inventory: Path, turns: Turns) -> None:
    turns.dying = 1

    code, out, err = call("run", "--inventory", inventory, "--command", "true")

    assert code == 4
    assert out.splitlines()[-1] == "2 succeeded, 1 lost"
    assert f"{turns.lost[0]} is lost, going on: The process that ran this step vanished" in err
    verbs = HistoryEntry.objects.filter(reason="worker lost").values_list("verb", flat=True)
    assert sorted(set(verbs)) == ["resume", "skip"]
    assert HistoryEntry.objects.filter(verb="skip").count() == 1


def test_many_lost_hosts_are_passed_over_at_once_and_some_are_named(tmp_path: Path, turns: Turns) -> None:
    inventory = tmp_path / "many.ini"
    inventory.write_text("h[1:60] connection=local\n")
    turns.dying = 50

    code, out, err = call("run", "--inventory", inventory, "--command", "true")

    assert (code, out.splitlines()[-1]) == (4, "10 succeeded, 50 lost")
    assert err.count(" is lost, going on") == 20
    assert "30 more are lost, going on" in err


@pytest.mark.parametrize("action", [RunOnHost, RunOnHosts])
def test_a_report_that_cannot_be_written_is_left_to_an_operator(
    inventory: Path, turns: Turns, monkeypatch: pytest.MonkeyPatch, action: type[Any]
) -> None:
    def fail(_action: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(action, "finalize", fail)

    code, _, err = call("run", "--inventory", inventory, "--command", "true")

    assert code == 1
    assert "is paused: its report could not be written: disk full. Look at it in the admin" in err


def test_hosts_that_cannot_be_planned_are_left_to_an_operator(
    inventory: Path, turns: Turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_action: object, **_given: object) -> None:
        raise ValueError("no such thing")

    monkeypatch.setattr(RunOnHost, "plan", fail)

    code, _, err = call("run", "--inventory", inventory, "--command", "true")

    assert code == 1
    assert "is paused: 3 hosts could not be planned, h1: no such thing" in err


def test_a_plan_that_was_cancelled_reports_what_became_of_its_hosts(inventory: Path, turns: Turns) -> None:
    def cancel() -> None:
        plan = ExecutionPlan.objects.get(parent_step=None)
        if not plan.is_stopped:
            control.cancel(plan)
        turns.engine.run(plan)

    turns.instead = cancel

    code, out, err = call("run", "--inventory", inventory, "--command", "true")

    assert code == 1
    assert out.splitlines()[-1] == "3 cancelled"
    assert "ended with the result cancelled" in err


def test_a_plan_whose_report_is_gone(inventory: Path, turns: Turns) -> None:
    def delete() -> None:
        turns.engine.run()
        Report.objects.all().delete()

    turns.instead = delete

    code, _, err = call("run", "--inventory", inventory, "--command", "true")

    assert code == 1
    assert "ended without a report, with the result success" in err


TEMPLATE = "# input: word\necho {{ word }}-{{ host }}; test {{ host }} != h2\n"


def test_a_template_with_variables(inventory: Path, turns: Turns, tmp_path: Path) -> None:
    template = tmp_path / "greet.sh"
    template.write_text(TEMPLATE)

    arguments = ("--template", template, "--var", "word=a=b c", "--concurrency", "2")
    code, out, _ = call("run", "--inventory", inventory, *arguments)

    assert (code, out.splitlines()[-1]) == (4, "2 succeeded, 1 failed")
    entry = ExecutionPlan.objects.get(parent_step=None).actions.get()
    assert (entry.input["values"], entry.input["concurrency"]) == ({"word": "a=b c"}, 2)
    child = ExecutionPlan.objects.get(label="h1").actions.get()
    assert child.input["command"].splitlines()[-1] == "echo 'a=b c'-h1; test h1 != h2"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [([], "word (h1, h2, h3)"), (["--var", "word=1", "--var", "wrod=2"], "no input wrod; it declares: word")],
)
def test_variables_that_do_not_fit_run_nothing(
    inventory: Path, tmp_path: Path, arguments: list[str], problem: str
) -> None:
    template = tmp_path / "greet.sh"
    template.write_text(TEMPLATE)

    code, _, err = call("run", "--inventory", inventory, "--template", template, *arguments)

    assert code == 2
    assert problem in err
    assert not ExecutionPlan.objects.exclude(state="stopped").exists()


def test_waiting_has_an_end(inventory: Path, turns: Turns, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter(range(0, 1000, 2))
    monkeypatch.setattr(turns, "clock", lambda: next(times))
    turns.instead = lambda: None

    code, _, err = call("run", "--inventory", inventory, "--command", "true", "--timeout", "3")

    plan = ExecutionPlan.objects.get()
    assert code == 7
    assert f"Plan {plan.pk} has not ended within 3 s. It goes on; look at plan {plan.pk}" in err


def test_an_interrupt_leaves_the_plan_alone(inventory: Path, turns: Turns) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    turns.instead = interrupt

    code, _, err = call("run", "--inventory", inventory, "--command", "true")

    assert code == 130
    assert "Not followed any more. It goes on" in err


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--limit", "wbe", "--command", "true"], "'wbe', which is no host or group"),
        (["--command", " "], "The command is empty"),
        (["--script", "/no/such/script"], "cannot be read (No such file"),
        (["--command", "a", "--script", "b"], "not allowed with"),
        ([], "is required"),
        (["--command", "a", "--script", "b", "--template", "c"], "not allowed with"),
        (["--command", "a", "--var", "b=c"], "give --template FILE"),
        (["--template", "a", "--var", "b"], "not of the form NAME=VALUE"),
        (["--command", "a", "--concurrency", "0"], "no number of hosts above 0"),
        (["--command", "a", "--timeout", "-1"], "no number of seconds above 0"),
        (["--command", "a", "--time-limit", "soon"], "no number of seconds above 0"),
    ],
)
def test_wrong_usage_plans_nothing(inventory: Path, arguments: list[str], problem: str) -> None:
    code, out, err = call("run", "--inventory", inventory, *arguments)

    assert code in (1, 2)
    assert problem in err
    assert out == ""
    assert not ExecutionPlan.objects.filter(state="planned").exists()


def test_an_inventory_that_is_not_there(tmp_path: Path) -> None:
    code, _, err = call("hosts", "--inventory", tmp_path / "nowhere.yml")

    assert code == 2
    assert "nowhere.yml: there is no such file; check the path" in err


def test_hosts_are_listed(inventory: Path) -> None:
    code, out, _ = call("hosts", "--inventory", inventory, "--limit", "h[1:2]")

    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == ["HOST", "h1", "h2"]


def test_hosts_as_json(inventory: Path) -> None:
    _, out, _ = call("hosts", "--inventory", inventory, "--json")

    assert [host["name"] for host in json.loads(out)] == ["h1", "h2", "h3"]
