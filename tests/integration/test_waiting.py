"""Suspended steps: events, self-events, timers, time-outs; and what else one plan can do."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from django.contrib.auth.models import Group
from django.db import connection, transaction

from dynflow_app import control, triggering
from dynflow_app.exceptions import DuplicateEventError, WrongStateError
from dynflow_app.models import Action, Attempt, Event, OutputChunk, Step
from dynflow_app.payloads.masking import MASK
from dynflow_app.reading.progress import progress_of
from tests.engine import Engine, outcome
from tests.testapp import looking, told, whole
from tests.testapp.journal import Journal

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper

pytestmark = pytest.mark.django_db(transaction=True)


def test_events_are_handled_in_order_each_once(engine: Engine, journal: Journal) -> None:
    """Sent while the step was not suspended yet, and while it was."""
    plan = triggering.trigger(whole.Waits)
    control.send_event(plan.steps.get(), "early", 1)
    engine.run(plan)
    for number in range(2, 5):
        control.send_event(plan.steps.get(), "more", number)
    engine.run(plan)
    assert plan.state == "running"
    control.send_event(plan.steps.get(), "end", 5)
    engine.run(plan)
    assert outcome(plan) == "stopped/success"
    assert [data for _, data in plan.actions.get().output["got"]] == [1, 2, 3, 4, 5]
    assert set(Event.objects.values_list("state", flat=True)) == {"handled"}


@pytest.mark.parametrize("after", [0.5, 0])
def test_a_step_sends_itself_an_event(engine: Engine, journal: Journal, after: float) -> None:
    """Scenario 22. Unlike Dynflow's, the delay is a durable timer."""
    plan = engine.run(triggering.trigger(whole.WakesItself, after=after + 30 if after else 0))
    if after:
        assert plan.steps.get().alarm == "event"
        engine.run(plan)
        assert plan.state == "running", "nothing changes until the time has come"
        engine.pass_time(31)
        engine.run(plan)
    assert outcome(plan) == "stopped/success"
    assert plan.actions.get().output == {"got": 7}


def test_a_step_that_has_ended_refuses_events(engine: Engine, journal: Journal) -> None:
    """Scenario 23; an unknown plan refuses, too."""
    plan = engine.run(triggering.trigger(whole.Undoable, name="a"))
    step = plan.steps.get()
    with pytest.raises(WrongStateError, match="stopped"):
        control.send_event(step, "go")
    plan.delete()
    assert control.send_event(step, "go", optional=True) is None


def test_an_event_that_nobody_handled_is_dropped_and_kept(engine: Engine, journal: Journal) -> None:
    plan = triggering.trigger(whole.Undoable, name="a")
    control.send_event(plan.steps.get(), "go")
    assert outcome(engine.run(plan)) == "stopped/success"
    assert Event.objects.get().state == "dropped"


def test_the_same_event_counts_once(engine: Engine, journal: Journal) -> None:
    plan = engine.run(triggering.trigger(whole.Waits))
    control.send_event(plan.steps.get(), "go", key="k")
    with pytest.raises(DuplicateEventError):
        control.send_event(plan.steps.get(), "go", key="k")
    assert Event.objects.count() == 1
    control.cancel(plan)
    engine.run(plan)


def test_an_event_shares_the_fate_of_its_transaction(engine: Engine, journal: Journal) -> None:
    """Scenario 50."""
    plan = engine.run(triggering.trigger(whole.Waits))
    step = plan.steps.get()
    with transaction.atomic():
        Group.objects.create(name="with the event")
        control.send_event(step, "end")
        transaction.set_rollback(True)
    assert (Group.objects.count(), Event.objects.count()) == (0, 0)
    with transaction.atomic():
        Group.objects.create(name="with the event")
        control.send_event(step, "end")
    assert outcome(engine.run(plan)) == "stopped/success"
    assert Group.objects.count() == 1


def test_a_wait_that_takes_too_long_fails(engine: Engine, journal: Journal) -> None:
    plan = engine.run(triggering.trigger(whole.WaitsFor60))
    engine.pass_time(59)
    engine.run(plan)
    assert plan.state == "running"
    engine.pass_time(2)
    engine.run(plan)
    assert outcome(plan) == "paused/error"
    assert plan.steps.get().error["class"].endswith("StepTimeoutError")


def test_an_event_that_comes_first_ends_the_wait(engine: Engine, journal: Journal) -> None:
    plan = engine.run(triggering.trigger(whole.WaitsFor60))
    control.send_event(plan.steps.get(), "in time")
    engine.pass_time(1000)
    assert outcome(engine.run(plan)) == "stopped/success"


def test_the_time_of_a_step_includes_its_waiting(engine: Engine, journal: Journal) -> None:
    class Hurried(whole.Waits):
        timeout = timedelta(seconds=100)

    plan = engine.run(triggering.trigger(Hurried))
    engine.pass_time(60)
    control.send_event(plan.steps.get(), "go on")
    engine.run(plan)
    assert plan.state == "running"
    engine.pass_time(41)
    engine.run(plan)
    assert outcome(plan) == "paused/error"


@pytest.mark.parametrize("asked", ["on_timeout", "cancel"])
def test_a_step_that_goes_on_waiting_when_it_is_asked_gets_no_more_time(
    engine: Engine, journal: Journal, asked: str
) -> None:
    # given a step that waits, a hundred seconds altogether, and declines to end earlier
    plan = engine.run(triggering.trigger(told.AsksForMore))
    if asked == "cancel":
        control.cancel(plan)
        journal.write("on_timeout")  # the next one is the last
    else:
        engine.pass_time(11)
    engine.run(plan)
    assert (plan.state, asked in journal.lines) == ("running", True)

    # when it waits on, then its time is over no later
    engine.pass_time(80)
    engine.run(plan)
    assert (plan.state, plan.steps.get().state) == ("running", "suspended")
    engine.pass_time(21)
    engine.run(plan)
    step = plan.steps.get()
    assert (step.state, journal.lines.count("on_timeout")) == ("error", 2)
    assert step.error["class"].endswith("StepTimeoutError")


def test_timers_that_came_due_while_nothing_ran_fire_once(engine: Engine, journal: Journal) -> None:
    """Scenario 51: a look, a retry and a time-out, all long due when everything starts again."""
    journal.break_("run a")
    plans = [
        engine.run(triggering.trigger(looking.LooksAgain)),
        engine.run(triggering.trigger(whole.RecordAgain, name="a")),
        engine.run(triggering.trigger(whole.WaitsFor60)),
    ]
    engine.pass_time(3600)
    started_again = Engine()
    started_again.run()
    assert journal.lines.count("look") == 2
    assert journal.lines.count("run a") == 2
    assert [plan.steps.get().attempt for plan in plans] == [2, 2, 2]


def test_an_atomic_step_writes_and_is_recorded_at_once(engine: Engine, journal: Journal) -> None:
    journal.break_("run once")
    plan = engine.run(triggering.trigger(whole.WritesOnce, name="once"))
    assert (outcome(plan), Group.objects.count()) == ("paused/error", 0)
    journal.repair("run once")
    control.resume(plan)
    engine.run(plan)
    assert (outcome(plan), Group.objects.count()) == ("stopped/success", 1)


@pytest.mark.parametrize(
    ("broken", "called"),
    [((), ["on_success", "on_stopped"]), (("run a",), ["on_paused", "on_failure", "on_stopped"])],
)
def test_hooks_are_called_in_order(
    engine: Engine, journal: Journal, broken: tuple[str, ...], called: list[str]
) -> None:
    """Scenario 39. Dynflow has hooks for every state; ours are four, and run in workers."""
    journal.break_(*broken)
    plan = engine.run(triggering.trigger(whole.Hooked, name="a"))
    if broken:
        control.cancel(plan)
        engine.run(plan)
    assert [line for line in journal.lines if line.startswith("on_")] == called


def test_a_hook_that_raises_changes_no_result(engine: Engine, journal: Journal) -> None:
    """Scenario 39; the failure is shown, and the next hook is called all the same."""
    journal.break_("on_success")
    plan = engine.run(triggering.trigger(whole.Hooked, name="a"))
    assert outcome(plan) == "stopped/success"
    hook = plan.steps.get(phase="hook")
    assert (hook.state, "on_success is broken" in hook.error["message"]) == ("error", True)
    assert journal.lines[-1] == "on_stopped"


def test_a_subclass_disables_an_inherited_hook(engine: Engine, journal: Journal) -> None:
    """Scenario 39."""
    engine.run(triggering.trigger(whole.Unhooked, name="a"))
    assert [line for line in journal.lines if line.startswith("on_")] == ["on_stopped"]


def test_progress_counts_by_weight(engine: Engine, journal: Journal) -> None:
    """Scenario 27."""
    plan = engine.run(triggering.trigger(whole.Weighty))
    assert progress_of([plan])[plan.pk] == pytest.approx(0.42)


def test_a_secret_is_nowhere_to_be_read(engine: Engine, journal: Journal, settings: SettingsWrapper) -> None:
    """Scenario 59, in the ledger; pages and API have tests of their own."""
    from cryptography.fernet import Fernet

    settings.DYNFLOW = {**settings.DYNFLOW, "ENCRYPTION_KEYS": (Fernet.generate_key().decode(),)}
    plan = engine.run(triggering.trigger(whole.Secretive, pin="canary-2718"))
    assert outcome(plan) == "paused/error"
    assert MASK in plan.steps.get().error["message"]
    assert MASK in OutputChunk.objects.get().text
    with connection.cursor() as cursor:
        for model in (Action, Step, Attempt, OutputChunk, Event):
            cursor.execute(f"SELECT * FROM {model._meta.db_table}")  # noqa: S608 - tables of ours
            assert "canary-2718" not in str(cursor.fetchall())
