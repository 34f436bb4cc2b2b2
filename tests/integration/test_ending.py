"""Cancel, abort, halt, freeze and their answers."""

from __future__ import annotations

import pytest

from dynflow_app import control, triggering
from dynflow_app.exceptions import WrongStateError
from dynflow_app.models import Envelope, ExecutionPlan
from tests.engine import Engine, names_by_state, outcome
from tests.testapp import locking, whole
from tests.testapp.actions import OnlyFinalize
from tests.testapp.journal import Journal

pytestmark = pytest.mark.django_db(transaction=True)


def test_an_action_may_answer_a_cancel_with_success(engine: Engine, journal: Journal) -> None:
    """Scenario 17, clean handler."""
    plan = engine.run(triggering.trigger(whole.AnswersCancel))
    control.cancel(plan, by="ada", reason="not needed")
    engine.run(plan)
    assert outcome(plan) == "stopped/success"
    assert plan.actions.get().output == {"cancelled": True}
    assert (plan.history.get().verb, plan.history.get().actor) == ("cancel", "ada")


def test_a_cancel_handler_that_raises_pauses_the_plan(engine: Engine, journal: Journal) -> None:
    """Scenario 17, raising handler."""
    journal.break_("cancel")
    plan = engine.run(triggering.trigger(whole.AnswersCancel))
    control.cancel(plan)
    engine.run(plan)
    assert outcome(plan) == "paused/error"
    assert plan.steps.get().error["message"] == "cancel is broken"


@pytest.mark.parametrize("action", [whole.Waits, whole.GivesUpOnCancel])
def test_a_waiting_step_is_cancelled_once(engine: Engine, journal: Journal, action: type) -> None:
    """Scenario 18: one acknowledgement. Unlike in Dynflow a run step can be cancelled, not only fail or succeed."""
    plan = engine.run(triggering.trigger(action))
    control.cancel(plan)
    engine.run(plan)
    assert outcome(plan) == "stopped/cancelled"
    assert journal.lines.count("cancel") == (action is whole.GivesUpOnCancel)
    assert plan.steps.get().state == "cancelled"


def test_an_abort_does_not_ask(engine: Engine, journal: Journal) -> None:
    """Scenario 18, with force."""
    plan = engine.run(triggering.trigger(whole.AnswersCancel))
    control.abort(plan)
    engine.run(plan)
    assert outcome(plan) == "stopped/cancelled"
    assert journal.lines == []


def test_one_step_may_be_cancelled_and_what_depends_on_it_never_runs(engine: Engine, journal: Journal) -> None:
    plan = triggering.trigger(whole.UndoneOnFailure)
    engine.decide()
    control.cancel(plan.steps.get(action__input__name="a"))
    engine.run(plan)
    assert outcome(plan) == "stopped/cancelled"
    assert names_by_state(plan) == {"cancelled": ["a", "b", "c", "d"]}
    assert journal.lines == []


@pytest.mark.parametrize("progress", ["planned", "finalizing"])
def test_a_plan_of_which_only_finalize_is_left_is_cancelled(engine: Engine, journal: Journal, progress: str) -> None:
    # given a plan that has nothing to run, before or in its finalize phase
    plan = triggering.trigger(OnlyFinalize, name="a")
    if progress == "finalizing":
        engine.decide()

    # when it is cancelled, then it never finalizes
    control.cancel(plan)
    engine.run(plan)
    assert outcome(plan) == "stopped/cancelled"
    assert "finalize a" not in journal.lines


@pytest.mark.parametrize("state", ["planned", "running"])
def test_one_step_of_a_plan_of_which_nothing_has_run_may_be_cancelled(
    engine: Engine, journal: Journal, state: str
) -> None:
    class Locking(whole.Mixed):
        def plan(self) -> None:
            self.lock("h1")
            super().plan()

    plan = triggering.trigger(Locking if state == "planned" else whole.Mixed)
    assert plan.state == state
    control.cancel(plan.steps.get(phase="run", action__input__name="a"))
    engine.run(plan)
    assert outcome(plan) == "stopped/cancelled"
    assert journal.lines == ["run b"]


def test_what_waits_for_its_next_try_is_cancelled(engine: Engine, journal: Journal) -> None:
    journal.break_("run a")
    plan = engine.run(triggering.trigger(whole.RecordAgain, name="a"))
    control.cancel(plan)
    engine.run(plan)
    assert outcome(plan) == "stopped/cancelled"
    engine.pass_time(1000)
    engine.run(plan)
    assert journal.lines.count("run a") == 1


def test_a_paused_plan_is_cancelled(engine: Engine, journal: Journal) -> None:
    journal.break_("run a", "run b")
    plan = engine.run(triggering.trigger(whole.Mixed))
    control.cancel(plan)
    engine.run(plan)
    assert outcome(plan) == "stopped/cancelled"
    with pytest.raises(WrongStateError, match="stopped"):
        control.cancel(plan)


def halted(engine: Engine, journal: Journal, state: str) -> ExecutionPlan:
    """A plan that was halted in this state."""
    journal.break_("run a", "run b")
    if state == "planned":
        plan = triggering.trigger(locking.UseHost, "a", "h1")
    else:
        plan = triggering.trigger(whole.Waits if state == "suspended" else whole.Mixed)
    if state in ("suspended", "paused"):
        engine.run(plan)
    assert plan.state == ("running" if state == "suspended" else state)
    control.halt(plan, by="ada", reason="enough")
    engine.run(plan)
    assert not Envelope.objects.filter(plan=plan).exists()
    return plan


@pytest.mark.parametrize(
    ("state", "ends", "steps"),
    [
        ("suspended", "stopped/cancelled", {"suspended"}),
        ("paused", "stopped/error", {"error"}),
        ("planned", "stopped/cancelled", {"pending"}),
        ("running", "stopped/cancelled", {"pending"}),
    ],
)
def test_a_halted_plan_stops_and_leaves_its_steps(
    engine: Engine, journal: Journal, state: str, ends: str, steps: set[str]
) -> None:
    """Scenario 20. Scheduled plans come with delayed planning; a pending one is never visible."""
    plan = halted(engine, journal, state)
    assert outcome(plan) == ends
    assert {step.state for step in plan.steps.filter(phase="run")} == steps


def test_the_suspended_step_of_a_halted_plan_is_deaf(engine: Engine, journal: Journal) -> None:
    plan = halted(engine, journal, "suspended")
    with pytest.raises(WrongStateError, match="stopped"):
        control.send_event(plan.steps.get(), "end")
    assert control.send_event(plan.steps.get(), "end", optional=True) is None


def test_a_frozen_plan_waits_until_it_is_unfrozen(engine: Engine, journal: Journal) -> None:
    plan = triggering.trigger(locking.UseHost, "a", "h1")
    control.freeze(plan)
    engine.run(plan)
    assert plan.state == "planned"
    with pytest.raises(WrongStateError, match="frozen already"):
        control.freeze(plan)
    control.unfreeze(plan)
    assert outcome(engine.run(plan)) == "stopped/success"


def test_many_at_once_report_what_became_of_each(engine: Engine, journal: Journal) -> None:
    waiting = [engine.run(triggering.trigger(whole.Waits)) for _ in range(3)]
    over = engine.run(triggering.trigger(whole.Undoable, name="a"))
    report = control.in_bulk(control.cancel, ExecutionPlan.objects.all(), by="ada")
    assert set(report.done) == {plan.pk for plan in waiting}
    assert set(report.skipped) == {over.pk}
    assert report.failed == {}


def test_undoing_is_a_plan_that_can_be_looked_at_first(engine: Engine, journal: Journal) -> None:
    plan = engine.run(triggering.trigger(whole.Undoable, name="a"))
    assert [(step.action.input["name"], can) for step, can in control.revert_preview(plan)] == [("a", True)]
    undo = control.revert(plan, by="ada")
    assert outcome(engine.run(undo)) == "stopped/success"
    with pytest.raises(WrongStateError, match=str(undo.pk)):
        control.revert(plan)
