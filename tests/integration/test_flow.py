"""Order and data: what waits for what, and what it gets."""

from __future__ import annotations

import pytest

from dynflow_app import triggering
from dynflow_app.exceptions import WrongStateError
from dynflow_app.models import Action, Dependency, ExecutionPlan, Step
from dynflow_app.states import PlanState
from tests.engine import Engine, names_by_state, outcome, ready, step_named
from tests.testapp import actions
from tests.testapp.journal import Journal

pytestmark = pytest.mark.django_db(transaction=True)


def test_independent_chains_start_together_and_advance_on_their_own(engine: Engine, journal: Journal) -> None:
    """Scenario 1: two chains ordered by outputs; finishing a head releases only its own successor."""
    # given two chains of three that share nothing
    plan = triggering.trigger(actions.TwoChains)

    # when they start, both heads wait for a worker, and nothing else
    engine.decide()
    assert ready(plan) == ["a1", "a2"]

    # when one head has ended, its own successor follows; the other chain is as it was
    engine.work("first")
    assert ready(plan) == ["b1", "a2"]
    assert names_by_state(plan)["pending"] == ["c1", "b2", "c2"]

    # then the other, and after six steps all is done
    engine.work("second")
    assert ready(plan) == ["b1", "b2"]
    engine.run(plan)
    assert sorted(journal.lines) == ["run a1", "run a2", "run b1", "run b2", "run c1", "run c2"]
    assert outcome(plan) == "stopped/success"


def test_a_failed_head_stops_its_own_chain_only(engine: Engine, journal: Journal) -> None:
    """Scenario 2: successors of the failed head never start; the flow is over once the other chain has ended."""
    # given a head that will fail
    journal.break_("run a1")
    plan = triggering.trigger(actions.TwoChains)
    engine.decide()

    # when it has failed, the plan runs on, with an error in it
    engine.work("first")
    engine.decide()
    assert names_by_state(plan) == {"error": ["a1"], "pending": ["b1", "c1", "b2", "c2"], "ready": ["a2"]}
    assert outcome(plan).startswith("running/")

    # then it is decided when the other chain has ended, and not before
    engine.work("second")
    engine.decide()
    assert outcome(plan).startswith("running/")
    engine.run(plan)
    assert names_by_state(plan) == {"error": ["a1"], "pending": ["b1", "c1"], "success": ["a2", "b2", "c2"]}
    assert outcome(plan) == "paused/error"
    assert not {"run b1", "run c1"} & set(journal.lines)


def test_a_merge_runs_last_and_gets_every_output(engine: Engine, journal: Journal) -> None:
    """Scenario 3: the stored input holds references before the run and concrete values after it."""
    # given a merge after a concurrence of three, with the outputs of all of them
    plan = triggering.trigger(actions.Review)
    merge = Action.objects.get(plan=plan, input__name="merge")
    assert merge.input["ci"] == {"$output": {"action": merge.consumes[0], "path": ["value"]}}
    assert len(merge.consumes) == 3

    # when two of three have ended, it still waits
    engine.decide()
    engine.work("default")
    assert names_by_state(plan)["pending"] == ["merge"]

    # then it runs last, and its input tells what it got
    engine.run(plan)
    merge.refresh_from_db()
    assert journal.lines[-1] == "run merge"
    assert merge.input["ci"] == "ci"
    assert merge.input["reviews"] == [{"verdict": "review-1"}, {"verdict": "review-2"}]
    assert outcome(plan) == "stopped/success"


def test_subscribers_are_planned_beside_their_trigger(engine: Engine, journal: Journal) -> None:
    """Scenario 4: both subscribers appear in the plan, side by side, planned with the same arguments."""
    # given a class with two subscribers
    # when it is planned
    plan = triggering.trigger(actions.Subscribed, name="x", colour="red")
    engine.decide()

    # then all three may start at once, with the same input
    together = Step.objects.filter(plan=plan, state="ready").order_by("number")
    assert [step.action.class_name for step in together] == ["Subscribed", "SubscriberOne", "SubscriberTwo"]
    assert [action.input for action in plan.actions.all()] == [{"name": "x", "colour": "red"}] * 3
    engine.run(plan)
    assert outcome(plan) == "stopped/success"
    assert journal.lines == ["run x"] * 3


def test_finalize_methods_run_one_by_one_in_planning_order_after_all_runs(engine: Engine, journal: Journal) -> None:
    """Scenario 5: five finalize methods, in order, after every run."""
    # given five actions side by side, each with run and finalize
    plan = triggering.trigger(actions.FiveFinalizers)

    # when all has run
    engine.run(plan)

    # then the finalize methods came last, in the order of planning
    assert sorted(journal.lines[:5]) == [f"run {number}" for number in range(1, 6)]
    assert journal.lines[5:] == [f"finalize {number}" for number in range(1, 6)]
    assert all(action.output["finalized"] for action in plan.actions.exclude(input={}))
    assert outcome(plan) == "stopped/success"


def test_no_finalize_method_runs_if_any_run_failed(engine: Engine, journal: Journal) -> None:
    """Scenario 5: with any failed run step, none is executed."""
    # given one of five that will fail
    journal.break_("run 3")
    plan = triggering.trigger(actions.FiveFinalizers)

    # when all that can run has run
    engine.run(plan)

    # then nothing was finalized
    assert outcome(plan) == "paused/error"
    assert [line for line in journal.lines if line.startswith("finalize")] == []
    assert len(names_by_state(plan, "finalize")["pending"]) == 5


def test_a_plan_without_steps_is_over_at_once(engine: Engine) -> None:
    """Scenario 6: stopped/success, and nothing starts it again."""
    # given an action with nothing to run
    plan = triggering.trigger(actions.Nothing, any="input")

    # when the orchestrator has seen it
    engine.decide()

    # then it is over
    assert outcome(plan) == "stopped/success"
    assert plan.ended_at is not None
    assert not plan.steps.exists()
    from dynflow_app import control

    with pytest.raises(WrongStateError, match="stopped"):
        control.resume(plan)


def test_an_action_may_have_nothing_but_finalize(engine: Engine, journal: Journal) -> None:
    """Scenario 6: a finalize-only action ends well."""
    plan = triggering.trigger(actions.OnlyFinalize, name="x")

    engine.run(plan)

    assert journal.lines == ["finalize x"]
    assert outcome(plan) == "stopped/success"


def test_a_step_starts_as_soon_as_what_it_really_needs_has_ended(engine: Engine, journal: Journal) -> None:
    """Scenario 41: in a diamond with uneven arms, e waits for b alone and starts while c still runs."""
    # given c, which does not end before e has run
    plan = triggering.trigger(actions.Diamond)

    # when all has run
    engine.run(plan)

    # then e did not wait for c, and d waited for both
    assert outcome(plan) == "stopped/success", names_by_state(plan)
    assert journal.lines == ["run a", "run b", "run e", "run c", "run d"]


def test_a_thousand_joined_to_a_thousand_costs_two_thousand_rows(engine: Engine, journal: Journal) -> None:
    """Scenario 42: the rows add up rather than multiply, and every second-row step waits for all of the first row."""
    # given two rows of a thousand
    plan = triggering.trigger(actions.Rows, width=1000)
    dependencies = Dependency.objects.filter(gate__plan=plan).count()
    behind_a_gate = plan.steps.filter(gate__isnull=False).count()
    assert dependencies + behind_a_gate <= 2001

    # when all but one of the first row have ended, nothing of the second is ready
    engine.decide()
    assert engine.work("default") == 999
    assert len(names_by_state(plan)["pending"]) == 1000

    # then the last one opens the way for all of them
    assert engine.work("first") == 1
    assert len(ready(plan)) == 1000
    engine.run(plan)
    assert outcome(plan) == "stopped/success"
    assert len(journal.lines) == len(set(journal.lines)) == 2000


def test_what_is_ordered_waits_for_all_of_what_comes_before(engine: Engine, journal: Journal) -> None:
    """Scenario 3: sequence after a concurrence of a step and a sequence, checked in the order of the journal."""
    plan = triggering.trigger(actions.Deploy)

    engine.run(plan)

    runs = [line.removeprefix("run ") for line in journal.lines if line.startswith("run")]
    assert runs[0] == "build"
    assert set(runs[1:3]) == {"test", "lint"}
    assert runs[3:] == ["publish", "announce"]
    assert step_named(plan, "announce").attempt == 1
    assert ExecutionPlan.objects.get(pk=plan.pk).state == PlanState.STOPPED
