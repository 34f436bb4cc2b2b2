"""``manage.py dynflow_cleanup`` as people and cron start it, and as a crash ends it."""

from __future__ import annotations

import gzip
import json
import signal
from collections import Counter
from datetime import timedelta
from io import StringIO
from pathlib import Path

import psutil
import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from dynflow_app import clock
from dynflow_app.models import ExecutionPlan, Step
from tests.factories import PlanFactory, add_steps
from tests.support import Processes, wait_until

FAN = "project.bench.actions.Fan"
ATOMIC = pytest.mark.django_db
ROWS = 12
"""Plans in the tests with processes, of two steps each."""


def old_plans(number: int, days: float = 40, steps: int = 0) -> None:
    for _ in range(number):
        plan = PlanFactory(state="stopped", created_at=clock.now() - timedelta(days=days))
        if steps:
            add_steps(plan, steps, "error")


def run(*arguments: str) -> str:
    output = StringIO()
    call_command("dynflow_cleanup", *arguments, stdout=output)
    return output.getvalue()


def archived(path: Path) -> Counter[str]:
    """Plans in an archive, and how often each is there. Every line is whole."""
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    found = [json.loads(line) for line in text.splitlines()]
    assert all(len(each["steps"]) == len(each["attempts"]) == 2 for each in found)
    return Counter(each["plan"]["id"] for each in found)


# --- what people see ------------------------------------------------------------------------------------------------


@ATOMIC
def test_it_says_what_it_did(tmp_path: Path) -> None:
    old_plans(3, steps=2)
    path = tmp_path / "plans.jsonl"

    assert run("--older-than", "30", "--archive", str(path)) == f"Deleted 3 plans; they are in {path}.\n"
    assert run("--older-than", "30d") == "Deleted 0 plans.\n"
    assert archived(path).total() == 3


@ATOMIC
def test_a_dry_run_lists_what_would_go() -> None:
    old_plans(2)
    PlanFactory(state="stopped", created_at=clock.now() - timedelta(days=50), result="error")

    assert run("--older-than", "4w", "--dry-run").splitlines() == [
        f"        1  error      {FAN}",
        f"        2  success    {FAN}",
        "Would delete 3 plans.",
    ]
    assert ExecutionPlan.objects.count() == 3


@ATOMIC
def test_a_dry_run_makes_no_archive(tmp_path: Path) -> None:
    old_plans(1)
    run("--older-than", "1", "--dry-run", "--archive", str(tmp_path / "plans.jsonl"))
    assert list(tmp_path.iterdir()) == []


@ATOMIC
def test_without_any_age_it_deletes_nothing_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    from dynflow_app.retention.action import Cleanup

    monkeypatch.setattr(Cleanup, "keep_for", None)
    old_plans(1, days=9999)
    assert "KEEP_FOR is None" in run()
    assert ExecutionPlan.objects.count() == 1


@ATOMIC
@pytest.mark.parametrize("silent", [["--quiet"], ["-v", "0"]])
def test_it_can_be_quiet(silent: list[str]) -> None:
    old_plans(1)
    assert run("--older-than", "1d", *silent) == ""
    assert not ExecutionPlan.objects.exists()


@ATOMIC
def test_options_narrow_it_down() -> None:
    old_plans(4)
    assert run("--older-than", "1h", "--result", "error", "cancelled") == "Deleted 0 plans.\n"
    assert run("--older-than", "1h", "--limit", "1", "--batch", "1", "--action", FAN) == "Deleted 1 plan.\n"
    assert ExecutionPlan.objects.count() == 3


@ATOMIC
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--action", "project.bench.action.Fan"], "Did you mean project.bench.actions.Fan?"),
        (["--action", "nobody.Knows"], "Give module and class"),
        (["--older-than", "soon"], "'soon' is no age; write a number and d, h, m or w, such as 30d"),
        (["--older-than", "-3d"], "no age|expected one argument"),
        (["--batch", "0"], "whole number from 1 to 10,000"),
        (["--limit", "x"], "whole number from 1"),
        (["--result", "pending"], "invalid choice"),
        (["--archive", "/nowhere/plans.jsonl"], "cannot be written: No such file or directory. Choose another file"),
    ],
)
def test_errors_say_what_to_do(arguments: list[str], message: str) -> None:
    with pytest.raises(CommandError, match=message):
        run(*arguments)


@ATOMIC
def test_an_action_whose_class_is_gone_can_still_be_named() -> None:
    PlanFactory(state="stopped", action="gone.Away")
    assert run("--older-than", "0", "--action", "gone.Away") == "Deleted 1 plan.\n"


@pytest.mark.django_db(transaction=True)
@pytest.mark.invented
def test_missing_migrations_are_told() -> None:
    table = "django_migrations"
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} RENAME TO {table}_away")
    try:
        with pytest.raises(CommandError, match="migrate"):
            run("--older-than", "1")
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE {table}_away RENAME TO {table}")


# --- what a crash leaves --------------------------------------------------------------------------------------------


@pytest.mark.processes
@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz"])
@pytest.mark.parametrize("probe", ["plans_archived", "plans_deleted"])
@pytest.mark.parametrize("nth", [1, 3])
def test_killed_anywhere_it_loses_no_plan_and_tears_none(
    processes: Processes, tmp_path: Path, probe: str, nth: int, suffix: str
) -> None:
    # given a clean-up that is killed at a point
    old_plans(ROWS, steps=2)
    before = {str(key) for key in ExecutionPlan.objects.values_list("id", flat=True)}
    path = tmp_path / f"plans.{suffix}"
    arguments = ("dynflow_cleanup", "--older-than", "30d", "--archive", str(path), "--batch", "3")
    killed = processes.manage(*arguments, DYNFLOW_PROBES=f"{probe}=kill@{nth}")
    assert killed.wait() == -signal.SIGKILL

    # then every plan is whole in the tables, or whole in the archive
    there = {str(key) for key in ExecutionPlan.objects.values_list("id", flat=True)}
    assert len(there) == ROWS - 3 * (nth - (probe == "plans_archived"))
    assert there | archived(path).keys() == before
    assert Step.objects.count() == 2 * len(there)

    # when it is started again, then the rest goes, and no plan is in the archive less than once
    assert processes.manage(*arguments).wait() == 0
    assert not ExecutionPlan.objects.exists()
    found = archived(path)
    assert found.keys() == before
    assert max(found.values()) <= 2


@pytest.mark.processes
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_end_it_ends_after_the_batch(processes: Processes, tmp_path: Path, number: signal.Signals) -> None:
    # given a clean-up that is stopped in the middle of a batch, and told to end
    old_plans(ROWS, steps=2)
    path = tmp_path / "plans.jsonl"
    arguments = ("dynflow_cleanup", "--older-than", "30d", "--archive", str(path), "--batch", "3")
    process = processes.manage(*arguments, DYNFLOW_PROBES="plans_archived=stop@2")
    wait_until(lambda: path.exists() and path.read_text().count("\n") == 6)
    wait_until(lambda: _is_stopped(process.pid), describe="it is stopped")
    process.signal(number)
    process.signal(signal.SIGCONT)

    # then it ends, having done that batch, and says so
    assert process.wait() == 128 + number
    assert "Deleted 6 plans" in process.output
    assert "Stopped early" in process.output
    assert ExecutionPlan.objects.count() == ROWS - 6


def _is_stopped(pid: int) -> bool:
    return bool(psutil.Process(pid).status() == psutil.STATUS_STOPPED)
