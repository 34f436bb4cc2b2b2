"""``manage.py rex``: exit codes, what goes where, and plans that need help on their way."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from dynflow_app.models import ExecutionPlan, HistoryEntry
from project.rex.following import Follower
from project.rex.management.commands import rex
from project.rex.models import Report
from project.rex.presentation import ProgressDisplay
from tests.rex.scripted import HandDrivenPlan

INVENTORY = "[web]\nh[1:3] connection=local\n"

pytestmark = [pytest.mark.django_db, pytest.mark.invented]


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    """Three local hosts."""
    path = tmp_path / "inventory.ini"
    path.write_text(INVENTORY)
    return path


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> HandDrivenPlan:
    """Drives the plan that the command follows."""
    driven = HandDrivenPlan()

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


def test_all_hosts_succeed(inventory: Path, engine: HandDrivenPlan) -> None:
    code, out, err = call("run", "--inventory", inventory, "--command", "echo hi")

    assert code == 0
    assert out.splitlines()[-1] == "3 succeeded"
    assert f"plan {engine.plan.pk} on 3 hosts" in err  # type: ignore[union-attr]


def test_some_hosts_fail(inventory: Path, engine: HandDrivenPlan) -> None:
    command = "test $REX_HOST != h2 || exit 9"

    code, out, _ = call("run", "--inventory", inventory, "--limit", "!h3", "--command", command)

    assert code == 4
    assert "h2    failed     9" in out
    assert out.splitlines()[-1] == "1 succeeded, 1 failed"


def test_json_is_one_document(inventory: Path, engine: HandDrivenPlan) -> None:
    arguments = ("--inventory", inventory, "--command", "true", "--json", "--time-limit", "5")

    code, out, _ = call("run", *arguments)

    document = json.loads(out)
    assert code == 0
    assert document["plan_id"] == str(Report.objects.get().plan_id)
    assert document["counts"] == {"succeeded": 3}
    assert [line["host"] for line in document["results"]] == ["h1", "h2", "h3"]


def test_a_script_from_a_file(inventory: Path, engine: HandDrivenPlan, tmp_path: Path) -> None:
    script = tmp_path / "check.sh"
    script.write_text("test $REX_HOST = h1 || exit 7\n")

    code, out, _ = call("run", "--inventory", inventory, "--script", script)

    assert (code, out.splitlines()[-1]) == (4, "1 succeeded, 2 failed")
    assert ExecutionPlan.objects.get().label == f"{script} on 3 hosts"


def test_hosts_whose_worker_died_are_lost_and_the_rest_goes_on(inventory: Path, engine: HandDrivenPlan) -> None:
    engine.dying = frozenset({"h2"})

    code, out, err = call("run", "--inventory", inventory, "--command", "true")

    assert code == 4
    assert out.splitlines()[-1] == "2 succeeded, 1 lost"
    assert "h2 is lost, going on: its worker vanished" in err
    verbs = HistoryEntry.objects.filter(reason="worker lost").values_list("verb", flat=True)
    assert sorted(verbs) == ["resume", "skip"]


def test_a_report_that_cannot_be_written_is_left_to_an_operator(inventory: Path, engine: HandDrivenPlan) -> None:
    engine.finalize_error = "disk full"

    code, _, err = call("run", "--inventory", inventory, "--command", "true")

    assert code == 1
    assert "is paused: its report could not be written: disk full. Look at it in the admin" in err


def test_a_plan_that_was_cancelled_has_no_report(
    inventory: Path, engine: HandDrivenPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cancel(_seconds: float) -> None:
        engine._move(ExecutionPlan.objects.get(), "stopped", result="cancelled", ended_at="2026-01-01T00:00Z")
        ExecutionPlan.objects.get().steps.update(state="cancelled")

    monkeypatch.setattr(engine, "sleep", cancel)

    code, _, err = call("run", "--inventory", inventory, "--command", "true")

    assert code == 1
    assert "ended without a report, with the result cancelled" in err


def test_waiting_has_an_end(inventory: Path, engine: HandDrivenPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter(range(0, 1000, 2))
    monkeypatch.setattr(engine, "clock", lambda: next(times))
    monkeypatch.setattr(engine, "sleep", lambda _seconds: None)

    code, _, err = call("run", "--inventory", inventory, "--command", "true", "--timeout", "3")

    plan = ExecutionPlan.objects.get()
    assert code == 7
    assert f"Plan {plan.pk} has not ended within 3 s. It goes on; look at plan {plan.pk}" in err


def test_an_interrupt_leaves_the_plan_alone(
    inventory: Path, engine: HandDrivenPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(engine, "sleep", interrupt)

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
