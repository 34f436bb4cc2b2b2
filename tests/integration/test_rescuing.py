"""What failed is resumed or skipped by an operator; what succeeded never runs again."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Group

from dynflow_app import BaseAction, control, triggering
from dynflow_app.exceptions import WrongStateError
from dynflow_app.models import Envelope, ExecutionPlan
from dynflow_app.triggering import TriggerOptions
from tests.engine import Engine, names_by_state, outcome, ready, step_named
from tests.testapp import actions, locking
from tests.testapp.journal import Journal

pytestmark = pytest.mark.django_db(transaction=True)


class MakeTwoGroups(BaseAction):
    """The first is made before the second fails."""

    def plan(self) -> None:
        self.plan_action(actions.MakeGroup, name="one")
        self.plan_action(actions.MakeGroup, name="one")


def test_resume_runs_only_what_failed(engine: Engine, journal: Journal) -> None:
    """Scenario 13: the input is corrected, and the failed step runs again, once."""
    # given a plan that paused because one of its steps failed
    journal.break_("run a1")
    plan = triggering.trigger(actions.TwoChains)
    engine.run(plan)
    assert outcome(plan) == "paused/error"
    failed = step_named(plan, "a1")
    assert "run a1 is broken" in failed.error["message"]

    # when its input is corrected and the plan resumed
    failed.action.input["name"] = "a1 corrected"
    failed.action.save()
    control.resume(plan, by="operator", reason="typing error")
    assert outcome(plan) == "running/pending"
    engine.run(plan)

    # then that step ran again, what waited for it followed, and the other chain was left alone
    assert outcome(plan) == "stopped/success"
    for line in ("run a1", "run a1 corrected", "run b1", "run c1", "run a2", "run b2", "run c2"):
        assert journal.lines.count(line) == 1, line
    failed.refresh_from_db()
    assert failed.attempt == 2
    assert [attempt.ended_as for attempt in failed.attempts.all()] == ["failed", "succeeded"]
    assert failed.error is None
    assert [(entry.verb, entry.actor, entry.reason) for entry in plan.history.all()] == [
        ("resume", "operator", "typing error")
    ]


def test_a_resumed_step_may_fail_again(engine: Engine, journal: Journal) -> None:
    """Scenario 13: the cause is still there, so the plan pauses again and can be resumed again."""
    journal.break_("run x")
    plan = triggering.trigger(actions.Record, name="x")

    for tries in (1, 2, 3):
        engine.run(plan)
        assert outcome(plan) == "paused/error"
        assert journal.lines == ["run x"] * tries
        if tries == 3:
            journal.repair("run x")
        control.resume(plan)
    engine.run(plan)

    assert outcome(plan) == "stopped/success"
    assert journal.lines == ["run x"] * 4


def test_resume_starts_the_finalize_phase_over(engine: Engine, journal: Journal) -> None:
    """Scenario 14: every finalize step runs again, no run step does."""
    # given a plan whose third of five finalize methods failed
    journal.break_("finalize 3")
    plan = triggering.trigger(actions.FiveFinalizers)
    engine.run(plan)
    assert outcome(plan) == "paused/error"
    assert journal.lines[5:] == ["finalize 1", "finalize 2", "finalize 3"]
    assert names_by_state(plan, "finalize") == {"pending": ["1", "2", "4", "5"], "error": ["3"]}
    assert "finalize 3 is broken" in step_named(plan, "3", "finalize").error["message"]

    # when the cause is fixed and the plan resumed
    journal.repair("finalize 3")
    control.resume(plan)
    engine.run(plan)

    # then the phase started over, and nothing else ran
    assert outcome(plan) == "stopped/success"
    assert journal.lines[8:] == [f"finalize {number}" for number in range(1, 6)]


def test_the_first_finalize_step_may_be_the_one_that_fails(engine: Engine, journal: Journal) -> None:
    """Scenario 14: the step that the phase was claimed through is no exception."""
    journal.break_("finalize 1")
    plan = triggering.trigger(actions.FiveFinalizers)
    engine.run(plan)
    assert outcome(plan) == "paused/error"
    assert names_by_state(plan, "finalize") == {"error": ["1"], "pending": ["2", "3", "4", "5"]}

    journal.repair("finalize 1")
    control.resume(plan)
    engine.run(plan)

    assert outcome(plan) == "stopped/success"
    assert journal.lines[6:] == [f"finalize {number}" for number in range(1, 6)]


def test_a_failed_finalize_phase_leaves_nothing_in_the_database(engine: Engine, journal: Journal) -> None:
    """Scenario 14: all finalize steps are one transaction."""
    # given two that write, of which the second violates a constraint
    plan = triggering.trigger(MakeTwoGroups)
    engine.run(plan)

    # then the first was rolled back with it
    assert outcome(plan) == "paused/error"
    assert journal.lines == ["finalize one"]
    assert not Group.objects.exists()

    # and skipping the second lets the first stand
    failed = plan.steps.get(state="error")
    control.skip(failed)
    control.resume(plan)
    engine.run(plan)
    assert outcome(plan) == "stopped/warning"
    assert [group.name for group in Group.objects.all()] == ["one"]


def test_a_finalize_method_that_swallows_a_database_error_fails(engine: Engine, journal: Journal) -> None:
    """Scenario 14: its transaction is beyond use; that is its own fault, and trying again for ever is no answer."""
    Group.objects.create(name="taken")
    plan = triggering.trigger(actions.MakeGroupCarelessly, name="taken")

    engine.decide()
    engine.work_at_most(seconds=3)
    engine.decide()

    assert outcome(plan) == "paused/error"
    assert journal.lines == ["finalize carelessly"]
    assert plan.steps.get().error is not None


def test_a_skipped_step_takes_its_consumers_along(engine: Engine, journal: Journal) -> None:
    """Scenario 15: the step, all that consume its output, and their finalize steps; the rest is executed."""
    # given a plan of which the test failed; publish needs its output, announce only comes after publish
    journal.break_("run test")
    plan = triggering.trigger(actions.Deploy)
    engine.run(plan)
    assert outcome(plan) == "paused/error"
    assert names_by_state(plan) == {
        "success": ["build", "lint"],
        "error": ["test"],
        "pending": ["publish", "announce"],
    }
    failed = step_named(plan, "test")
    foreseen = control.skip_preview(failed)

    # when the failed step is skipped
    skipped = control.skip(failed, by="operator", reason="flaky")
    assert outcome(plan) == "paused/error"
    assert [step.number for step in foreseen] == [step.number for step in skipped]
    assert {(step.action.input["name"], step.phase) for step in skipped} == {
        ("test", "run"),
        ("test", "finalize"),
        ("publish", "run"),
        ("publish", "finalize"),
    }

    # and the plan resumed
    control.resume(plan)
    engine.run(plan)

    # then the rest is done, and the references of what was skipped are as they were
    assert outcome(plan) == "stopped/warning"
    assert names_by_state(plan) == {"success": ["build", "lint", "announce"], "skipped": ["test", "publish"]}
    assert names_by_state(plan, "finalize") == {"success": ["build", "lint"], "skipped": ["test", "publish"]}
    assert "run publish" not in journal.lines
    assert step_named(plan, "publish").action.input["of"]["tested"]["$output"]["path"] == ["value"]
    assert [entry.verb for entry in plan.history.all()] == ["skip", "resume"]


def test_skipping_keeps_the_order_of_what_is_left(engine: Engine, journal: Journal) -> None:
    """Scenario 15: a consumer skipped in the middle of a sequence does not let what follows it overtake."""
    # given sequence(1, 2, 3, 4) of which 3 consumes 1, and 1 fails
    journal.break_("run 1")
    program = [["sequence", [["step", []], ["step", []], ["step", [1]], ["step", []]]]]
    plan = triggering.trigger(actions.RandomPlan, program=program)
    engine.run(plan)

    # when 1 is skipped, and 3 with it
    control.skip(step_named(plan, "1"))
    control.resume(plan)
    engine.decide()

    # then 2 runs next, and 4 after it
    assert ready(plan) == ["2"]
    engine.run(plan)
    runs = [line for line in journal.lines if line.startswith(("start", "run"))]
    assert runs[2:] == ["start 2", "run 2", "start 4", "run 4"]
    assert outcome(plan) == "stopped/warning"


def test_only_a_failed_step_of_a_paused_plan_is_skipped(engine: Engine, journal: Journal) -> None:
    """Scenario 15: every other state is refused by name, and nothing changes."""
    journal.break_("run a1")
    plan = triggering.trigger(actions.TwoChains)
    engine.decide()
    with pytest.raises(WrongStateError, match="running"):
        control.skip(step_named(plan, "a1"))
    engine.run(plan)

    for name, state in (("a2", "success"), ("b1", "pending")):
        with pytest.raises(WrongStateError, match=state):
            control.skip(step_named(plan, name))

    assert names_by_state(plan) == {"error": ["a1"], "pending": ["b1", "c1"], "success": ["a2", "b2", "c2"]}
    assert not plan.history.exists()


def test_a_whole_chain_may_be_given_up(engine: Engine, journal: Journal) -> None:
    """Scenario 15: consumers of consumers go too, and there is nothing left to run."""
    journal.break_("run a1")
    plan = triggering.trigger(actions.TwoChains)
    engine.run(plan)

    control.skip(step_named(plan, "a1"))
    control.resume(plan)
    engine.run(plan)

    assert names_by_state(plan) == {"skipped": ["a1", "b1", "c1"], "success": ["a2", "b2", "c2"]}
    assert outcome(plan) == "stopped/warning"


def test_a_plan_that_is_not_paused_is_not_started_again(engine: Engine, journal: Journal) -> None:
    """Scenario 16: rejected, with the state found; the plan runs as if nothing had been asked."""
    plan = triggering.trigger(locking.UseHost, "x", "h1")
    with pytest.raises(WrongStateError, match="planned") as planned:
        control.resume(plan)
    engine.decide()
    with pytest.raises(WrongStateError, match="running") as running:
        control.resume(plan)

    assert (planned.value.state, running.value.state) == ("planned", "running")
    engine.run(plan)
    assert outcome(plan) == "stopped/success"
    assert journal.lines == ["run x"]


def test_the_same_key_gives_the_same_plan(engine: Engine, journal: Journal) -> None:
    """Scenario 16: a second trigger with a known key starts nothing."""
    options = TriggerOptions(idempotency_key="x-1")
    plan = triggering.trigger(actions.Record, name="x", options=options)
    engine.run(plan)

    again = triggering.trigger(actions.Record, name="x", options=options)
    engine.run()

    assert again.pk == plan.pk
    assert journal.lines == ["run x"]


@pytest.mark.parametrize("moment", ["before it starts", "while it runs", "before the decision"])
def test_a_deleted_plan_disturbs_nobody(engine: Engine, journal: Journal, moment: str) -> None:
    """Scenario 16: the orchestrator drops a plan whose rows are gone and keeps serving others."""
    # given two plans; about one of them the orchestrator has to decide at its start, and once it has failed
    journal.break_("run a1")
    options = TriggerOptions(plan_in_worker=moment == "before it starts")
    doomed = triggering.trigger(actions.TwoChains, options=options)
    other = triggering.trigger(actions.Record, name="other")
    if moment == "before the decision":
        engine.work()
    assert outcome(doomed) == ("scheduled/pending" if moment == "before it starts" else "running/pending")
    assert Envelope.objects.filter(plan=doomed).exists() == (moment != "while it runs")

    # when the rows of one are deleted
    ExecutionPlan.objects.get(pk=doomed.pk).delete()
    engine.run(other)

    # then the other ends as ever
    assert outcome(other) == "stopped/success"
    assert list(ExecutionPlan.objects.all()) == [other]
    with pytest.raises(WrongStateError, match="does not exist"):
        control.resume(doomed)
