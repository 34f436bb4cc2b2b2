"""What becomes of a plan whose steps fail: retries, rescue strategies, fail-fast, reverting."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from dynflow_app import control, triggering
from dynflow_app.models import ExecutionPlan
from tests.engine import Engine, names_by_state, outcome, step_named
from tests.testapp import fast, whole
from tests.testapp.journal import Journal

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper

pytestmark = pytest.mark.django_db(transaction=True)


def verbs(plan: ExecutionPlan) -> list[str]:
    return list(plan.history.values_list("verb", flat=True))


def test_a_skippable_action_is_skipped_and_leaves_a_note(engine: Engine, journal: Journal) -> None:
    """Scenario 8. Unlike in Dynflow the handler is a step of its own, which a worker runs."""
    journal.break_("run a")
    plan = engine.run(triggering.trigger(whole.RecordOrSkip, name="a"))
    assert outcome(plan) == "stopped/warning"
    assert plan.actions.get().output == {"note": "run a is broken"}
    assert plan.steps.get(phase="finalize").state == "skipped"
    assert journal.lines == ["run a", "skip a"]


def test_an_action_that_fails_in_finalize_is_skipped_there(engine: Engine, journal: Journal) -> None:
    """Scenario 8, finalize: what ran is kept, the finalize step is skipped."""
    journal.break_("finalize a")
    plan = engine.run(triggering.trigger(whole.RecordOrSkip, name="a"))
    assert outcome(plan) == "stopped/warning"
    assert plan.steps.get(phase="run").state == "success"
    assert plan.steps.get(phase="finalize").state == "skipped"


def test_a_skip_handler_that_raises_is_asked_once(engine: Engine, journal: Journal) -> None:
    """Scenario 9: exactly one rescue attempt; the step is back in error and nothing was skipped."""
    journal.break_("run a", "skip a")
    plan = engine.run(triggering.trigger(whole.RecordOrSkip, name="a"))
    assert outcome(plan) == "paused/error"
    assert journal.lines == ["run a", "skip a"]
    assert plan.steps.get(phase="run").error["message"] == "skip a is broken"
    assert plan.steps.get(phase="finalize").state == "pending"


def test_the_whole_may_insist_on_a_pause(engine: Engine, journal: Journal) -> None:
    """Scenario 10. Our history has verbs and rescues, where Dynflow's has start and pause."""
    journal.break_("run a", "run b")
    plan = engine.run(triggering.trigger(whole.RescueOfParts))
    assert outcome(plan) == "paused/error"
    assert journal.lines[-1] == "combine skip,skip"
    assert not any(line.startswith("skip ") for line in journal.lines)


def test_parts_that_disagree_leave_it_to_a_person(engine: Engine, journal: Journal) -> None:
    journal.break_("run a", "run b")
    plan = engine.run(triggering.trigger(whole.Mixed))
    assert outcome(plan) == "paused/error"


def test_a_plan_whose_failures_all_say_fail_stops(engine: Engine, journal: Journal) -> None:
    """Scenario 11, with fewer steps: what had not begun stays pending."""
    journal.break_("run failing")
    plan = engine.run(triggering.trigger(whole.AllFail))
    assert outcome(plan) == "stopped/error"
    assert names_by_state(plan) == {"success": ["ok"], "error": ["failing"], "pending": ["later-1", "later-2"]}
    assert verbs(plan) == ["rescue"]


def test_without_automatic_rescue_a_strategy_is_only_reported(
    engine: Engine, journal: Journal, settings: SettingsWrapper
) -> None:
    """Scenario 12."""
    settings.DYNFLOW = {**settings.DYNFLOW, "AUTO_RESCUE": False}
    journal.break_("run a")
    plan = engine.run(triggering.trigger(whole.RecordOrSkip, name="a"))
    assert outcome(plan) == "paused/error"
    assert "suggest: skip" in plan.history.get().reason


@pytest.mark.parametrize(
    ("suggests", "becomes"), [("skip", "stopped/warning"), ("fail", "stopped/error"), ("pause", "paused/error")]
)
def test_an_action_may_decide_in_code(engine: Engine, journal: Journal, suggests: str, becomes: str) -> None:
    """A worker calls it, once for each failure."""
    journal.break_("run a")
    plan = engine.run(triggering.trigger(whole.RecordOrDecide, name="a", suggests=suggests))
    assert outcome(plan) == becomes
    assert journal.lines.count("decide") == 1


def test_code_that_cannot_decide_leaves_it_to_a_person(engine: Engine, journal: Journal) -> None:
    journal.break_("run a", "decide")
    plan = engine.run(triggering.trigger(whole.RecordOrDecide, name="a", suggests="skip"))
    assert outcome(plan) == "paused/error"
    assert plan.steps.get(phase="rescue").error["message"] == "decide is broken"
    control.resume(plan)
    journal.repair("run a")
    assert outcome(engine.run(plan)) == "stopped/success"


def test_a_step_is_tried_again_after_longer_and_longer_pauses(engine: Engine, journal: Journal) -> None:
    """The waiting is a durable timer; each attempt is kept; the key for outside services is the same in all."""
    # given a step that fails
    journal.break_("run a")
    plan = engine.run(triggering.trigger(whole.RecordAgain, name="a"))

    # then it waits for its next try without a worker
    step = plan.steps.get()
    assert (plan.state, step.state, step.alarm, step.failures) == ("running", "suspended", "retry", 1)
    engine.pass_time(9)
    engine.run(plan)
    assert journal.lines.count("run a") == 1

    # and is tried three times altogether, after 10 and 30 seconds
    engine.pass_time(2)
    engine.run(plan)
    step.refresh_from_db()
    assert (step.failures, journal.lines.count("run a")) == (2, 2)
    engine.pass_time(31)
    engine.run(plan)
    assert outcome(plan) == "paused/error"
    assert list(step.attempts.values_list("ended_as", flat=True)) == ["failed"] * 3
    assert len({line for line in journal.lines if line.startswith("key")}) == 1

    # and a person's resume gives it all its tries again
    control.resume(plan)
    engine.run(plan)
    step.refresh_from_db()
    assert (step.state, step.failures) == ("suspended", 1)


def test_the_next_try_may_be_made_at_once(engine: Engine, journal: Journal) -> None:
    journal.break_("run a")
    plan = engine.run(triggering.trigger(whole.RecordAgain, name="a"))
    journal.repair("run a")
    control.retry(plan.steps.get(), by="ada")
    assert outcome(engine.run(plan)) == "stopped/success"


def test_one_failed_step_may_run_again_alone(engine: Engine, journal: Journal) -> None:
    plan = triggering.trigger(whole.Mixed)
    journal.break_("run a", "run b")
    engine.run(plan)
    journal.repair("run a")
    control.retry(step_named(plan, "a"))
    engine.run(plan)
    assert outcome(plan) == "paused/error"
    assert names_by_state(plan) == {"success": ["a"], "error": ["b"]}


def test_a_plan_that_fails_fast_starts_nothing_after_an_error(engine: Engine, journal: Journal) -> None:
    # given a failure, while another step is ready on a queue that nobody serves yet
    journal.break_("run failing")
    plan = triggering.trigger(whole.FailFast)
    engine.decide()
    engine.work("default")
    engine.decide()

    # then that step was taken back, and the plan paused
    assert outcome(plan) == "paused/error"
    assert names_by_state(plan) == {"success": ["gate"], "error": ["failing"], "pending": ["beside", "after"]}

    # and a resume lets all of it go on
    journal.repair("run failing")
    control.resume(plan)
    assert outcome(engine.run(plan)) == "stopped/success"


@pytest.mark.parametrize("action", [fast.GivenUp, fast.GivenUpWhenAsked])
def test_a_plan_that_fails_fast_goes_on_when_what_failed_was_given_up(
    engine: Engine, journal: Journal, action: type
) -> None:
    """Also with what was ready and was taken back."""
    # given a failure, while another step is ready on a queue that nobody serves yet
    journal.break_("run given up")
    plan = triggering.trigger(fast.FastWith, action)
    engine.decide()
    engine.work("default")
    assert names_by_state(plan)["pending"] == ["beside"]

    # when the failed step is skipped, as its action suggests, then the other one runs
    engine.run(plan)
    assert outcome(plan) == "stopped/warning"
    assert names_by_state(plan) == {"skipped": ["given up"], "success": ["beside"]}
    assert journal.lines.count("skip given up") == (action is fast.GivenUpWhenAsked)


def test_a_failure_elsewhere_does_not_take_a_cancel_back(engine: Engine, journal: Journal) -> None:
    # given a plan that fails fast, and a step of it that waits, and is about to be asked whether it can be cancelled
    journal.break_("run failing")
    plan = triggering.trigger(fast.FastWithWaiting)
    engine.decide()
    engine.work("second")
    waiting = plan.steps.get(queue="second")
    control.cancel(waiting)

    # when another step fails
    engine.work("default")

    # then it is asked all the same
    engine.run(plan)
    waiting.refresh_from_db()
    assert (waiting.state, outcome(plan)) == ("success", "paused/error")
    assert journal.lines == ["run failing", "cancel"]


def test_a_failure_may_undo_what_was_done(engine: Engine, journal: Journal) -> None:
    """The plan stops, and a plan of its own reverts its completed steps, the last first."""
    journal.break_("run d")
    plan = engine.run(triggering.trigger(whole.UndoneOnFailure))
    assert outcome(plan) == "stopped/error"
    undo = plan.derived.get()
    assert outcome(undo) == "stopped/success"
    assert journal.lines[-3:] == ["revert c", "revert b", "revert a"]


def test_a_step_that_no_worker_claims_in_time_fails(engine: Engine, journal: Journal) -> None:
    class Urgent(whole.SecondRecord):
        start_timeout = timedelta(seconds=30)

    plan = triggering.trigger(Urgent, name="a")
    engine.decide()
    assert plan.steps.get().alarm == "start"
    engine.pass_time(31)
    engine.decide()
    assert outcome(plan) == "paused/error"
    assert plan.steps.get().error["class"] == "StartTimeout"
    control.resume(plan)
    assert outcome(engine.run(plan)) == "stopped/success"
