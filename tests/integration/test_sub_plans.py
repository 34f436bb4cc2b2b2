"""One step makes many plans, and ends when they have."""

from __future__ import annotations

from collections.abc import Callable, Collection

import pytest

from dynflow_app import control
from dynflow_app.engine.director import Counts, Decision, decide
from dynflow_app.exceptions import WrongStateError
from dynflow_app.models import ExecutionPlan, SubPlans
from dynflow_app.orchestrator import advance
from dynflow_app.states import PlanState
from dynflow_app.triggering import trigger
from project.bench.figures import most_at_once
from tests.engine import Engine, outcome
from tests.testapp import many
from tests.testapp.journal import Journal

pytestmark = pytest.mark.django_db(transaction=True)


def names(number: int) -> list[str]:
    return [f"c{n}" for n in range(number)]


def outcomes_of_children(plan: ExecutionPlan) -> list[str]:
    children = ExecutionPlan.objects.filter(parent_step__plan=plan, position__isnull=False).order_by("position")
    return [f"{state}/{result}" for state, result in children.values_list("state", "result")]


def test_a_parent_ends_when_its_children_have(engine: Engine, journal: Journal) -> None:
    # given a parent of two, when it runs
    plan = engine.run(trigger(many.Parent, names=names(2)))

    # then it has counted them, and each names its parent
    assert outcome(plan) == "stopped/success"
    assert plan.actions.get().output == {"total": 2, "success": 2, "failed": 0, "pending": 0, "ran": ["c0", "c1"]}
    step = plan.steps.get(phase="run")
    assert [child.label for child in step.children.order_by("position")] == ["child c0", "child c1"]
    assert [child.triggered_by for child in step.children.all()] == [f"plan {plan.pk}"] * 2
    # and looks at its children left no attempts
    assert step.attempts.count() <= 2


def test_a_parent_without_children_succeeds(engine: Engine, journal: Journal) -> None:
    plan = engine.run(trigger(many.Parent, names=[]))
    assert outcome(plan) == "stopped/success"


def test_twenty_children_are_made_in_batches_of_five(engine: Engine, journal: Journal) -> None:
    engine.run(trigger(many.Parent, names=names(20)))
    assert [line for line in journal.lines if line.startswith("batch")] == [
        "batch 0-5", "batch 5-10", "batch 10-15", "batch 15-20",
    ]  # fmt: skip


def test_if_children_fail_so_does_their_parent_and_resuming_it_resumes_them(engine: Engine, journal: Journal) -> None:
    # given a parent two of whose three children fail when they run
    journal.break_("run c0", "run c2")
    plan = engine.run(trigger(many.Parent, names=names(3)))
    assert outcome(plan) == "paused/error"
    assert plan.steps.get(phase="run").error["message"] == "2 of 3 sub-plans failed."
    assert outcomes_of_children(plan) == ["paused/error", "stopped/success", "paused/error"]

    # when the cause of one is gone and the parent is resumed, then the other is left
    journal.repair("run c0")
    control.resume(plan)
    engine.run(plan)
    assert outcome(plan) == "paused/error"
    assert plan.steps.get(phase="run").error["message"] == "1 of 3 sub-plans failed."

    # and when that is resumed by itself, then the parent has only to be told
    journal.repair("run c2")
    control.resume(ExecutionPlan.objects.get(label="child c2"))
    engine.run()
    assert outcome(plan) == "paused/error"
    control.resume(plan)
    engine.run(plan)
    assert outcome(plan) == "stopped/success"
    assert plan.actions.get().output["success"] == 3
    assert [line for line in journal.lines if line == "run c1"] == ["run c1"], "what went well ran once"


def test_children_that_could_not_be_planned_are_made_when_the_parent_is_resumed(
    engine: Engine, journal: Journal
) -> None:
    # given a parent of twenty, one of whom in the first batch cannot be planned
    journal.break_("plan c3")
    plan = engine.run(trigger(many.Parent, names=names(20)))
    assert outcome(plan) == "paused/error"
    assert outcomes_of_children(plan)[3] == "stopped/error"

    # when the cause is gone and it is resumed
    journal.repair("plan c3")
    control.resume(plan)
    engine.run(plan)

    # then there was a fifth batch, of one, and twenty went well; the failed plan is still there to look at
    assert outcome(plan) == "stopped/success"
    batches = [line for line in journal.lines if line.startswith("batch")]
    assert batches[-1] == "batch 3-4"
    assert len(batches) == 5
    assert outcomes_of_children(plan) == ["stopped/success"] * 20
    assert ExecutionPlan.objects.filter(parent_step__plan=plan).count() == 21


def test_never_more_children_move_than_the_limit_says(engine: Engine, journal: Journal) -> None:
    # given a parent of nine that may have two at a time
    plan = trigger(many.LimitedParent, names=names(9), limit=2)

    # when it runs
    while not plan.is_stopped:
        engine.decide()
        engine.work()
        plan.refresh_from_db()

    # then at no time had more of them begun than ended
    assert outcome(plan) == "stopped/success"
    children = ExecutionPlan.objects.filter(parent_step__plan=plan)
    assert most_at_once(children.values_list("started_at", "ended_at")) == 2
    assert len([line for line in journal.lines if line.startswith("run")]) == 9


def test_children_that_paused_give_their_place_to_others(engine: Engine, journal: Journal) -> None:
    # given a limit of two, and two children that fail
    journal.break_("run c0", "run c1")
    plan = trigger(many.LimitedParent, names=names(6), limit=2)
    while plan.state != PlanState.PAUSED:
        engine.run(plan)
        engine.pass_time(1)

    # then the others were made all the same, and the parent says what is left
    assert outcomes_of_children(plan) == ["paused/error"] * 2 + ["stopped/success"] * 4
    assert plan.steps.get(phase="run").error["message"] == "2 of 6 sub-plans failed."


@pytest.mark.parametrize("verb", [control.cancel, control.abort])
def test_what_is_done_to_a_parent_is_done_to_its_children_and_it_ends_after_them(
    engine: Engine, journal: Journal, verb: Callable[..., None]
) -> None:
    # given a parent of children that wait, and answer when they are asked to end
    plan = engine.run(trigger(many.ParentOfAnswering, names=names(2)))
    assert outcome(plan) == "running/pending"

    # when it is cancelled, then it still waits for them
    verb(plan, by="ada")
    assert outcome(plan) == "running/pending"

    # and ends when they have; only who cancels asks
    engine.run(plan)
    assert outcome(plan) == "stopped/cancelled"
    if verb is control.cancel:
        assert sorted(journal.lines[1:]) == ["cancel c0", "cancel c1"]
        assert outcomes_of_children(plan) == ["stopped/success"] * 2
    else:
        assert journal.lines == ["batch 0-2"]
        assert outcomes_of_children(plan) == ["stopped/cancelled"] * 2
    assert [
        entry.verb for child in ExecutionPlan.objects.filter(parent_step__plan=plan) for entry in child.history.all()
    ] == [verb.__name__] * 2


def test_halting_a_parent_halts_its_children(engine: Engine, journal: Journal) -> None:
    plan = engine.run(trigger(many.ParentOfWaiting, names=names(2)))
    control.halt(plan)
    assert outcome(plan) == "stopped/cancelled"
    engine.run()
    assert outcomes_of_children(plan) == ["stopped/cancelled"] * 2


def test_cancelling_a_paused_parent_cancels_its_paused_children(engine: Engine, journal: Journal) -> None:
    journal.break_("run c0")
    plan = engine.run(trigger(many.Parent, names=names(3)))
    control.cancel(plan)
    engine.run(plan)
    assert outcome(plan) == "stopped/cancelled"
    assert outcomes_of_children(plan) == ["stopped/cancelled", "stopped/success", "stopped/success"]


def test_a_cancelled_parent_makes_no_more_children(engine: Engine, journal: Journal) -> None:
    # given a parent with one place and three children to make
    class OneAtATime(many.ParentOfWaiting):
        concurrency_limit = 1

    plan = engine.run(trigger(OneAtATime, names=names(3)))
    assert len(outcomes_of_children(plan)) == 1

    # when it is cancelled, then the other two never come to be
    control.cancel(plan)
    engine.run(plan)
    assert outcome(plan) == "stopped/cancelled"
    assert outcomes_of_children(plan) == ["stopped/cancelled"]


def test_a_parent_whose_time_is_over_cancels_what_has_not_ended(engine: Engine, journal: Journal) -> None:
    plan = engine.run(trigger(many.HurriedParent, names=names(2)))
    engine.pass_time(61)
    engine.run(plan)
    assert outcome(plan) == "paused/error"
    assert "2 of 2 sub-plans had not ended" in plan.steps.get(phase="run").error["message"]
    assert outcomes_of_children(plan) == ["stopped/cancelled"] * 2


def test_children_have_children(engine: Engine, journal: Journal) -> None:
    plan = engine.run(trigger(many.Grandparent, names=["a", "b"]))
    assert outcome(plan) == "stopped/success"
    assert sorted(line for line in journal.lines if line.startswith("run")) == [
        "run a0", "run a1", "run a2", "run b0", "run b1", "run b2",
    ]  # fmt: skip


def test_a_parent_that_gives_less_than_it_promised_fails_and_makes_nothing(engine: Engine, journal: Journal) -> None:
    plan = engine.run(trigger(many.WrongParent, names=names(3)))
    assert outcome(plan) == "paused/error"
    assert "give exactly 3 results" in plan.steps.get(phase="run").error["message"]
    assert outcomes_of_children(plan) == []


def test_counts_always_add_up(engine: Engine, journal: Journal) -> None:
    # given some of each kind
    journal.break_("plan c1", "run c2")
    plan = engine.run(trigger(many.Parent, names=names(5)))
    control.cancel(ExecutionPlan.objects.get(label="child c2"))
    engine.run()
    with pytest.raises(WrongStateError):
        control.cancel(ExecutionPlan.objects.get(label="child c2"))

    # then the ledger has counted each once
    row = SubPlans.objects.get(step__plan=plan)
    assert (row.total, row.made, row.success, row.error, row.cancelled) == (5, 5, 3, 1, 1)


def test_a_child_that_cannot_be_advanced_does_not_keep_its_parent_waiting(
    engine: Engine, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given an orchestrator that cannot decide about plans with a failed step
    def poisoned(run: Counts, finalize: Counts, rescues: Collection[str] = ()) -> Decision:
        if run.get("error"):
            raise RuntimeError("poison")
        return decide(run, finalize, rescues)

    monkeypatch.setattr(advance, "decide", poisoned)
    journal.break_("run c0")

    # when one of two children fails, then it is set aside, and its parent hears of it
    plan = engine.run(trigger(many.Parent, names=names(2)))
    assert outcomes_of_children(plan) == ["paused/error", "stopped/success"]
    assert plan.steps.get(phase="run").error["message"] == "1 of 2 sub-plans failed."
    assert plan.error["message"] == "poison"
