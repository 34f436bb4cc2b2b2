"""What the how-tos promise about failures and undoing: their examples run on the real engine."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import pytest

from dynflow_app import BaseAction, Rescue, Retry, control
from dynflow_app.exceptions import WrongStateError
from dynflow_app.models import ExecutionPlan, Step
from dynflow_app.triggering import trigger
from tests.docs.blocks import table
from tests.docs.following import FollowedPage
from tests.engine import Engine, names_by_state, outcome

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper

pytestmark = pytest.mark.django_db(transaction=True)
Open = Callable[..., FollowedPage]


class Flaky:
    """A function that raises each of `errors`, one per call, then returns."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls: list[str] = []

    def __call__(self, name: str) -> str:
        self.calls.append(name)
        if self.errors:
            raise self.errors.pop(0)
        return f"image of {name}"


def only_step(plan: ExecutionPlan) -> Step:
    return plan.steps.select_related("action").exclude(phase__in=["rescue", "skip", "hook"]).get()


# --- choose what a failure does -------------------------------------------------------------------------------------


def failing(page: Open, download: Flaky, send_mail: Flaky | None = None, book: Flaky | None = None) -> FollowedPage:
    found = page("choose-what-a-failure-does", download=download, send_mail=send_mail, book=book)
    found.follow(2)
    return found


def test_a_step_waits_between_tries_and_then_succeeds(page: Open, engine: Engine) -> None:
    download = Flaky(ConnectionError("down"))
    plan = engine.run(trigger(failing(page, download)["FetchImage"], name="a.png"))
    step = only_step(plan)
    assert (plan.state, step.state, step.alarm, len(download.calls)) == ("running", "suspended", "retry", 1)
    engine.pass_time(2)
    assert outcome(engine.run(plan)) == "stopped/success"
    assert plan.actions.get().output == {"image": "image of a.png"}


def test_the_third_try_is_the_last_one_and_resume_gives_all_back(page: Open, engine: Engine) -> None:
    download = Flaky(*[ConnectionError("down")] * 5)
    plan = engine.run(trigger(failing(page, download)["FetchImage"], name="a.png"))
    for pause in (2, 4):
        engine.pass_time(pause)
        engine.run(plan)
    assert (plan.state, len(download.calls)) == ("paused", 3)
    control.resume(plan)
    engine.run(plan)
    assert (plan.state, len(download.calls)) == ("running", 4), "it waits for another try"
    control.retry(only_step(plan))
    assert (outcome(engine.run(plan)), len(download.calls)) == ("running/pending", 5)
    control.retry(only_step(plan))
    assert outcome(engine.run(plan)) == "stopped/success"


def test_other_errors_are_final(page: Open, engine: Engine) -> None:
    download = Flaky(ValueError("no such image"))
    plan = engine.run(trigger(failing(page, download)["FetchImage"], name="a.png"))
    assert (plan.state, len(download.calls)) == ("paused", 1)


def test_what_a_failed_try_wrote_is_gone(page: Open, engine: Engine) -> None:
    failing(page, Flaky())
    seen: list[dict[str, Any]] = []

    class Untidy(BaseAction):
        retry = Retry(attempts=2)

        def run(self, event: object = None) -> None:
            seen.append(dict(self.output))
            if not seen[1:]:
                self.output["kept"] = True
                self.suspend(wake_after=0)
            self.output["gone"] = True
            if not seen[2:]:
                raise ConnectionError

    plan = engine.run(trigger(Untidy))
    engine.pass_time(1)
    assert outcome(engine.run(plan)) == "stopped/success"
    assert seen == [{}, {"kept": True}, {"kept": True}]


def test_the_tables_about_failures_list_what_exists(page: Open) -> None:
    path = failing(page, Flaky()).path
    documented = {row[0]: row[1].strip("`") for row in table(path, "## Try again: `retry`")}
    defaults = {each.name: getattr(Retry(), each.name) for each in fields(Retry)}
    assert documented.pop("on") == "(Exception,)"
    assert defaults.pop("on") == (Exception,)
    assert {name: ast.literal_eval(value) for name, value in documented.items()} == defaults
    strategies = {row[0].partition("`")[0] for row in table(path, "## Give up: `rescue_strategy`")}
    assert strategies == {f"Rescue.{rescue.name}" for rescue in Rescue if rescue}


def test_a_failure_that_is_skipped_leaves_a_warning_and_its_note(page: Open, engine: Engine) -> None:
    found = failing(page, Flaky(), send_mail=Flaky(OSError("no mail server")))
    plan = engine.run(trigger(found["Notify"], to="ada"))
    assert (outcome(plan), only_step(plan).state) == ("stopped/warning", "skipped")
    assert plan.actions.get().output == {"note": "not told: no mail server"}


def test_the_action_decides_by_its_error(page: Open, engine: Engine) -> None:
    book = Flaky(RuntimeError("sold out"), RuntimeError("line is busy"))
    found = failing(page, Flaky(), book=book)
    assert outcome(engine.run(trigger(found["Book"], seats=2))) == "stopped/error"
    assert outcome(engine.run(trigger(found["Book"], seats=2))) == "paused/error"


def test_different_suggestions_pause_unless_the_entry_action_decides(page: Open, engine: Engine) -> None:
    errors = [RuntimeError("sold out"), RuntimeError("sold out")]
    found = failing(page, Flaky(), send_mail=Flaky(OSError("a"), OSError("b")), book=Flaky(*errors))

    class Trip(BaseAction):
        def plan(self) -> None:
            self.plan_action(found["Notify"], to="ada")
            self.plan_action(found["Book"], seats=2)

    class FailingTrip(Trip):
        def combine_rescue(self, suggestions: list[Rescue]) -> Rescue:
            return Rescue.FAIL if Rescue.FAIL in suggestions else Rescue.PAUSE

    assert engine.run(trigger(Trip)).state == "paused"
    assert outcome(engine.run(trigger(FailingTrip))) == "stopped/error"


def test_a_decision_that_raises_and_an_on_skip_that_raises_pause(page: Open, engine: Engine) -> None:
    found = failing(page, Flaky(), send_mail=Flaky(OSError("a")), book=Flaky(OSError("b")))

    class Undecided(found["Book"]):
        def rescue_strategy(self) -> Rescue:
            raise LookupError("which?")

    class Insistent(found["Notify"]):
        def on_skip(self) -> None:
            raise LookupError("it was important")

    assert engine.run(trigger(Undecided, seats=2)).state == "paused"
    plan = engine.run(trigger(Insistent, to="ada"))
    assert (plan.state, only_step(plan).state) == ("paused", "error")
    assert "it was important" in only_step(plan).error["message"]


def test_without_auto_rescue_a_plan_pauses_and_says_what_it_would_have_done(
    page: Open, engine: Engine, settings: SettingsWrapper
) -> None:
    settings.DYNFLOW = {**settings.DYNFLOW, "AUTO_RESCUE": False}
    found = failing(page, Flaky(), send_mail=Flaky(OSError("a")))
    plan = engine.run(trigger(found["Notify"], to="ada"))
    assert plan.state == "paused"
    assert "suggest: skip (AUTO_RESCUE is off" in plan.history.get().reason


def test_after_a_failure_nothing_starts_in_a_plan_that_fails_fast(page: Open, engine: Engine) -> None:
    found = failing(page, Flaky(), book=Flaky(RuntimeError("busy"), RuntimeError("busy")))

    class Patient(BaseAction):
        def plan(self) -> None:
            self.plan_action(found["Book"], seats=2)
            with self.sequence():
                self.plan_action(found["FetchImage"], name="first")
                self.plan_action(found["FetchImage"], name="second")

    class Hasty(Patient):
        fail_fast = True

    patient, hasty = trigger(Patient), trigger(Hasty)
    for plan in (patient, hasty):
        engine.decide()
        engine.work(threads=1)  # the failure is recorded no later than the first image
        engine.run(plan)
    assert names_by_state(patient) == {"error": ["Book"], "success": ["first", "second"]}
    assert "second" in names_by_state(hasty)["pending"]


# --- undo a plan ---------------------------------------------------------------------------------------------------


class Cloud:
    """Writes down what it is told to do."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def __getattr__(self, verb: str) -> Callable[..., str]:
        def note(*given: str) -> str:
            self.calls.append(" ".join((verb, *given)))
            return "v1"

        return note


def test_a_plan_is_undone_backwards_by_a_plan_of_its_own(
    page: Open, engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    cloud = Cloud()
    found = page("undo-a-plan", cloud=cloud)
    found.follow()
    plan = found["plan"] = engine.run(trigger(found["AddStorage"], "web-1"))
    assert cloud.calls == ["create data-of-web-1", "attach v1 web-1"]
    found.follow()
    assert capsys.readouterr().out == "2 Attach True\n1 CreateVolume True\n"
    undo = engine.run(found["undo"])
    assert cloud.calls[2:] == ["detach v1 web-1", "delete v1"]
    assert (outcome(undo), outcome(plan)) == ("stopped/success", "stopped/success")
    assert str(undo.label).startswith("Revert of ")
    with pytest.raises(WrongStateError):
        control.revert(plan)
    for verb in (control.revert, control.rerun):
        with pytest.raises(WrongStateError):
            verb(undo)


def test_a_plan_that_suggests_revert_undoes_itself_without_what_failed(page: Open, engine: Engine) -> None:
    cloud = Cloud()
    found = page("undo-a-plan", whole=False, cloud=cloud)
    found.follow()

    class AttachBadly(found["Attach"]):
        rescue_strategy = Rescue.REVERT

        def run(self) -> None:
            raise RuntimeError("no such host")

    class AddStorage(BaseAction):
        def plan(self) -> None:
            volume = self.plan_action(found["CreateVolume"], name="data")
            self.plan_action(AttachBadly, volume=volume.output["volume"], host="web-1")

    plan = engine.run(trigger(AddStorage))
    assert outcome(plan) == "stopped/error"
    assert cloud.calls == ["create data", "delete v1"]
