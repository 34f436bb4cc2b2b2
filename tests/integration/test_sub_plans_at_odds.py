"""Sub-plans and plans planned by workers, when what happens to them comes at the wrong moment."""

from __future__ import annotations

import pytest

from dynflow_app import control
from dynflow_app.models import ExecutionPlan
from dynflow_app.orchestrator import sweep
from dynflow_app.triggering import TriggerOptions, trigger
from tests.engine import Engine, outcome
from tests.integration.test_sub_plans import outcomes_of_children
from tests.support import wait_until
from tests.testapp import many, odd
from tests.testapp.journal import Journal

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.servers  # on SQLite nobody else writes meanwhile
def test_a_plan_that_is_cancelled_while_a_worker_plans_it_never_runs(engine: Engine, journal: Journal) -> None:
    # given a plan whose plan phase is under way in a worker
    plan = trigger(odd.PlansSlowly, options=TriggerOptions(plan_in_worker=True))
    engine.decide()
    with engine.working():
        wait_until(lambda: "plans" in journal.lines)

        # when it is cancelled
        control.cancel(plan)
        journal.write("go")

    # then what was planned is not kept
    engine.run(plan)
    assert outcome(plan) == "stopped/cancelled"
    assert journal.lines == ["plans", "go"]


def test_a_finalize_method_that_halts_its_own_plan_fails(engine: Engine) -> None:
    plan = engine.run(trigger(odd.HaltsItself))
    assert outcome(plan) == "paused/error"
    assert plan.steps.get(phase="finalize").state == "error"


def test_time_that_is_over_while_sub_plans_are_made_ends_them_as_well(engine: Engine, journal: Journal) -> None:
    plan = engine.run(trigger(odd.MakesSlowly, names=["a", "b", "c", "d"]))
    assert outcome(plan) == "paused/error"
    assert plan.steps.get(phase="run").error["class"].endswith("StepTimeoutError")
    assert 1 <= len(outcomes_of_children(plan)) < 4
    assert set(outcomes_of_children(plan)) == {"stopped/cancelled"}


def test_a_parent_whose_time_is_over_may_have_another_try(engine: Engine, journal: Journal) -> None:
    plan = engine.run(trigger(odd.HurriedAgain, names=["a"]))
    engine.pass_time(61)
    engine.run(plan)
    step = plan.steps.get(phase="run")
    assert (step.state, step.alarm) == ("suspended", "retry")
    assert outcomes_of_children(plan) == ["stopped/cancelled"]


def test_a_parent_that_waits_for_its_next_try_is_cancelled_with_its_children(engine: Engine, journal: Journal) -> None:
    # given a paused child, and its parent, which is tried again in ten minutes
    journal.break_("run a")
    plan = engine.run(trigger(odd.ParentAgain, names=["a"]))
    assert outcomes_of_children(plan) == ["paused/error"]
    assert plan.steps.get(phase="run").alarm == "retry"

    # when it is cancelled, then nobody waits for that
    control.cancel(plan)
    engine.run(plan)
    assert outcome(plan) == "stopped/cancelled"
    assert outcomes_of_children(plan) == ["stopped/cancelled"]


def test_a_parent_does_not_wait_for_a_child_that_was_deleted(engine: Engine, journal: Journal) -> None:
    plan = engine.run(trigger(many.ParentOfWaiting, names=["a"]))
    ExecutionPlan.objects.filter(parent_step__plan=plan).delete()
    sweep.run_once(engine.term)
    engine.run(plan)
    assert outcome(plan) == "paused/error"
    assert plan.steps.get(phase="run").error["message"] == "1 of 1 sub-plans failed."


def test_singletons_cannot_be_sub_plans(engine: Engine, journal: Journal) -> None:
    plan = engine.run(trigger(odd.ParentOfSingles, names=["a", "b"]))
    assert "is a singleton" in plan.steps.get(phase="run").error["message"]
    assert outcomes_of_children(plan) == []
