"""Schedules that code declares become rows, and stay what operators made of them."""

from __future__ import annotations

import sys
from datetime import timedelta
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
from django.core.checks import run_checks
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from dynflow_app import BaseAction, Cron, Every
from dynflow_app.actions import registry
from dynflow_app.control import make_schedule, pause_schedule
from dynflow_app.models import Schedule
from dynflow_app.schedules.declaring import GONE, declare_schedules
from dynflow_app.states import ScheduleState
from tests.testapp.repeated import Tick

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper

pytestmark = pytest.mark.django_db

MODULE = "tests.testapp.nightly"


@pytest.fixture(autouse=True)
def _declaring(settings: SettingsWrapper, monkeypatch: pytest.MonkeyPatch) -> None:
    """Declare what the tests define, and nothing else."""
    settings.DYNFLOW = {**settings.DYNFLOW, "DECLARE_SCHEDULES": True}
    monkeypatch.setattr(registry, "_classes", {})
    monkeypatch.setitem(sys.modules, MODULE, ModuleType(MODULE))


def define(schedule: Any, name: str = "Nightly", module: str = MODULE) -> type[BaseAction]:
    """A deploy: from now on the code declares this."""
    return type(name, (BaseAction,), {"__module__": module, "schedule": schedule, "run": lambda self: None})


def remove(name: str = "Nightly") -> None:
    """A deploy that has the class no more."""
    del registry._classes[f"{MODULE}.{name}"]


def row() -> Schedule:
    return Schedule.objects.get(is_declared=True)


def test_what_code_declares_becomes_a_row_once() -> None:
    # given an action with a schedule
    define(Cron("0 3 * * *", tz="Europe/Prague", input={"deep": True}))

    # when processes that know it start, again and again
    declare_schedules()
    declare_schedules()
    with CaptureQueriesContext(connection) as queries:
        declare_schedules()

    # then there is one row, and nothing is written that is there already
    assert (row().action, row().cron, row().time_zone) == (f"{MODULE}.Nightly", "0 3 * * *", "Europe/Prague")
    assert (row().state, row().input) == (ScheduleState.ACTIVE, {"deep": True})
    assert len(queries) == 1


def test_migrate_declares() -> None:
    define(Every(hours=1))
    call_command("migrate", verbosity=0)
    assert row().every == timedelta(hours=1)


def test_a_subclass_does_not_inherit_a_schedule() -> None:
    nightly = define(Every(hours=1))
    type("Deeper", (nightly,), {"__module__": MODULE})
    declare_schedules()
    assert row().action.endswith("Nightly")


def test_a_deploy_changes_the_times_and_an_unchanged_one_leaves_the_next_occurrence() -> None:
    define(Every(hours=1))
    declare_schedules()
    before = row()
    define(Every(hours=1))
    declare_schedules()
    assert row().due_at == before.due_at
    define(Every(hours=2))
    declare_schedules()
    assert row().due_at == before.starts_at + timedelta(hours=2)


def test_what_operators_did_survives() -> None:
    # given a schedule that an operator paused
    define(Every(hours=1))
    declare_schedules()
    pause_schedule(row(), by="ada", reason="not now")

    # when processes start, and even when a deploy changes it or takes it away and brings it back
    for change in (lambda: None, lambda: define(Every(hours=2)), remove, lambda: define(Every(hours=2))):
        change()
        declare_schedules()

    # then it is still paused
    assert (row().state, row().changed_by, row().reason) == (ScheduleState.PAUSED, "ada", "not now")
    assert row().every == timedelta(hours=2)


def test_a_removed_class_pauses_its_schedule_until_it_is_back() -> None:
    """From reliability: a periodic action's class is gone."""
    # given a schedule
    define(Every(hours=1))
    declare_schedules()

    # when the code has it no more, then it is paused and says why
    remove()
    declare_schedules()
    assert (row().state, row().due_at, row().reason) == (ScheduleState.PAUSED, None, GONE)

    # when it is back, then it goes on
    define(Every(hours=1))
    declare_schedules()
    assert (row().state, row().reason) == (ScheduleState.ACTIVE, "")


@pytest.mark.parametrize(
    ("module", "state"),
    [
        ("elsewhere.actions", ScheduleState.ACTIVE),  # this process does not have that app
        ("tests.testapp.gone", ScheduleState.PAUSED),  # its app is here, but the module is not
        ("tests.testapp.later", ScheduleState.ACTIVE),  # is there, but nobody has imported it
    ],
)
def test_only_who_would_know_says_that_a_class_is_gone(
    module: str, state: ScheduleState, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "tests.testapp.later", raising=False)
    define(Every(hours=1), module=module)
    declare_schedules()
    registry._classes.clear()
    declare_schedules()
    assert row().state == state


def test_a_process_may_be_told_not_to_declare(settings: SettingsWrapper) -> None:
    settings.DYNFLOW = {**settings.DYNFLOW, "DECLARE_SCHEDULES": False}
    define(Every(hours=1))
    declare_schedules()
    assert not Schedule.objects.exists()


def test_a_purpose_that_is_taken_pauses_the_newcomer() -> None:
    registry.register(Tick)
    make_schedule(Tick, Every(hours=1, purpose="clean"))
    define(Every(hours=1, purpose="clean"))
    declare_schedules()
    assert row().state == ScheduleState.PAUSED
    assert "has the purpose 'clean'" in row().reason


def test_a_secret_that_cannot_be_opened_any_more_keeps_no_process_from_starting() -> None:
    define(Every(hours=1))
    declare_schedules()
    Schedule.objects.update(input={"token": {"$sealed": "nobody has the key"}})
    define(Every(hours=2))
    declare_schedules()
    assert row().every == timedelta(hours=1)


# --- checks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (Cron("61 * * * *"), "its minute cannot be '61'"),
        (Cron("@daily", tz="Europe/Pragu"), "Did you mean 'Europe/Prague'"),
        (Every(seconds=0), "a second at least"),
        ("0 3 * * *", "give Every(...) or Cron(...)"),
        (Every(seconds=5, input={"when": object()}), "kwargs.when is of type object"),
    ],
)
def test_check_finds_what_is_wrong_and_no_row_is_made(schedule: Any, message: str) -> None:
    define(schedule)
    (found,) = [each for each in run_checks(tags=["dynflow"]) if each.id == "dynflow_app.E007"]
    assert message in f"{found.msg} {found.hint}"
    assert f"{MODULE}.Nightly" in found.msg
    declare_schedules()
    assert not Schedule.objects.exists()


def test_check_finds_two_with_one_purpose() -> None:
    define(Every(hours=1, purpose="clean"), name="One")
    define(Every(hours=1, purpose="clean"), name="Two")
    (found,) = [each for each in run_checks(tags=["dynflow"]) if each.id == "dynflow_app.E007"]
    assert "is that of" in str(found.hint)
