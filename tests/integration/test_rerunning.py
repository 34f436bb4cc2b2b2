"""Plans run again: all of it as it was planned, or from a step on, with what is done kept."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynflow_app import control, triggering
from dynflow_app.exceptions import NotSerializableError, PlanningError, WrongStateError
from dynflow_app.models import Envelope, ExecutionPlan, Limit
from dynflow_app.payloads.json import OutputReference
from dynflow_app.planning import copying
from dynflow_app.triggering import TriggerOptions
from tests.engine import Engine, names_by_state, outcome
from tests.flows import (
    EXAMPLES,
    complete,
    example,
    live_through,
    named,
    order_of,
    run_to_the_end,
    skip,
    statements,
    succeed,
)
from tests.integration.test_random_plans import as_lists
from tests.invariants import violations
from tests.testapp import actions, undo
from tests.testapp.journal import Journal
from tests.unit.engine.test_flow_properties import PROGRAMS, Block, required_order

pytestmark = pytest.mark.django_db


@EXAMPLES
@given(program=PROGRAMS, seed=st.integers(0, 2**32))
def test_a_plan_run_again_is_the_plan_as_it_was_planned(program: Block, seed: int) -> None:
    """Whatever has become of it in between, also if steps were skipped and so taken out of its flow."""
    with example(seed) as chance:
        # given a plan that was left somewhere on its way
        plan = triggering.trigger(actions.RandomPlan, program=as_lists(program))
        planned = list(plan.actions.values_list("number", "name", "input", "output", "caller_number", "consumes"))
        live_through(plan, chance)

        # when it is run again
        made = copying.rerun(plan)

        # then all of it is to be done, in order, with references where they were
        fields = ("number", "name", "input", "output", "caller_number", "consumes")
        assert list(made.actions.values_list(*fields)) == planned
        found, required = order_of(made), required_order(program)
        assert all(found[number] >= required[number] for number in required)
        if not plan.steps.filter(state="skipped").exists():
            assert found == required
        assert set(made.steps.values_list("state", flat=True)) <= {"pending"}
        assert set(run_to_the_end(made, chance)) == required.keys()


@EXAMPLES
@given(program=PROGRAMS, seed=st.integers(0, 2**32))
def test_a_rerun_from_a_step_keeps_what_does_not_come_after_it(program: Block, seed: int) -> None:
    """What succeeded and is not after the step stays; all else runs, after what it must; also in a rerun of that."""
    with example(seed) as chance:
        # given a plan that was left somewhere on its way, and one of its steps
        required = required_order(program)
        if not required:
            return
        plan = triggering.trigger(actions.RandomPlan, program=as_lists(program))
        succeeded = live_through(plan, chance)
        chosen = chance.choice(sorted(required))

        # when it is run again from that step
        made = copying.rerun(plan, from_step=plan.steps.get(phase="run", action__input__name=str(chosen)))

        # then what is done already is copied, with its output and its resolved input
        assert violations() == []
        done = {number for number in succeeded if number != chosen and chosen not in required[number]}
        for step in made.steps.filter(phase="run").select_related("action"):
            number = int(step.action.input["name"])
            old = plan.actions.get(number=step.action.number)
            assert (step.state == "success") is (number in done)
            assert step.action.output == (old.output if number in done else {})
            assert step.action.input == (old.input if number in done else old.planned_input or old.input)
        assert set(made.steps.filter(phase="finalize").values_list("state", flat=True)) <= {"pending"}

        # and whatever is not done waits for all that it has to, now and in a rerun of the whole
        found, again = order_of(made), order_of(copying.rerun(made))
        for number, before in required.items():
            assert found[number] >= (before & done if number in done else before)
            assert again[number] >= (before & done if number in done else before)
        assert set(run_to_the_end(made, chance)) == required.keys() - done


def test_a_rerun_says_what_it_is_and_what_it_copied() -> None:
    """Options are kept, except the key that allows only one plan; what was copied names its source."""
    # given a plan with options, of which the last step failed
    options = TriggerOptions(label="Move", priority=3, tags=("x",), idempotency_key="once")
    plan = triggering.trigger(undo.Deeds, options=options)
    complete(plan, but="d")
    ExecutionPlan.objects.filter(pk=plan.pk).update(fail_fast=True, hooks=[1, 3])
    plan.refresh_from_db()

    # when it is run again from there
    made = copying.rerun(plan, from_step=named(plan, "d"), triggered_by="operator")

    # then
    made.refresh_from_db()
    assert (made.label, made.state, made.made_from, made.made_as) == ("Move", "planned", plan, "rerun")
    assert (made.queue, made.priority, made.tags, made.triggered_by) == (plan.queue, 3, ["x"], "operator")
    assert (made.hooks, made.fail_fast, made.idempotency_key) == ([1, 3], True, None)
    assert [str(envelope.kind) for envelope in Envelope.objects.filter(plan=made)] == ["planned"]
    copied, old = named(made, "b"), named(plan, "b")
    assert (copied.action.input, copied.action.output) == ({"name": "b", "of": "a"}, {"value": "b"})
    assert copied.action.planned_input == old.action.planned_input, "so that a rerun of the rerun has the reference"
    assert (copied.started_at, copied.ended_at) == (old.started_at, old.ended_at)
    assert copied.is_first_success
    assert copied.worker == f"copied from plan {str(plan.pk)[:13]}"


def test_a_step_that_succeeded_after_a_skipped_one_is_kept_and_nothing_overtakes() -> None:
    """The skipped step runs for the first time; what succeeded after it does not wait for it, but the rest does."""
    # given a sequence of which the second step was skipped, the third succeeded, and the fourth failed
    plan = triggering.trigger(actions.RandomPlan, program=[["sequence", [["step", []]] * 4]])
    succeed(named(plan, "1"))
    skip(named(plan, "2"))
    succeed(named(plan, "3"))

    # when it is run again from the fourth
    made = copying.rerun(plan, from_step=named(plan, "4"))

    # then
    assert names_by_state(made) == {"success": ["1", "3"], "pending": ["2", "4"]}
    assert order_of(made) == {1: set(), 2: {1}, 3: {1}, 4: {1, 2, 3}}


def test_what_was_skipped_early_finds_its_place_again() -> None:
    """Skipped while its gate was closed, a step leaves the flow; run again, only what came after it waits for it."""
    # given a step that was skipped with the one that it consumes, before it could start itself
    second_row: list[Any] = ["concurrence", [["step", [1]], ["step", [2]]]]
    rows: list[Any] = [["concurrence", [["step", []], ["step", []]]], second_row, ["step", []]]
    plan = triggering.trigger(actions.RandomPlan, program=[["step", []], ["sequence", rows]])
    skip(named(plan, "2"))
    assert names_by_state(plan)["skipped"] == ["2", "5"]

    # when it is run again
    made = copying.rerun(plan)

    # then
    assert order_of(made) == {1: set(), 2: set(), 3: set(), 4: {1, 2, 3}, 5: {2, 3}, 6: {1, 2, 3, 4, 5}}


def test_a_new_input_is_checked_as_if_it_was_planned() -> None:
    """It replaces that of the step, or of the entry action; it holds values only."""
    plan = triggering.trigger(undo.Deeds)
    step = named(plan, "b")

    changed = named(copying.rerun(plan, from_step=step, input={"name": "b2"}), "b2").action
    assert (changed.input, changed.consumes) == ({"name": "b2"}, [])
    entry = triggering.trigger(actions.Record, name="x")
    assert copying.rerun(entry, input={}).actions.get().input == {}

    wrong: list[tuple[Any, type[Exception], str]] = [
        ([1], PlanningError, r"The input of Deed is a dictionary of named values, not \[1\]"),
        ({"name": {1, 2}}, NotSerializableError, r"Deed\.input\.name is of type set"),
        ({"name": {"$output": 1}}, NotSerializableError, "reserved key"),
        ({"name": OutputReference(1)}, PlanningError, "refers to an output. Pass the value itself"),
    ]
    for given_input, error, words in wrong:
        with pytest.raises(error, match=words):
            copying.rerun(plan, from_step=step, input=given_input)
    with pytest.raises(PlanningError, match="Deeds has no step that uses input"):
        copying.rerun(plan, input={"name": "x"})
    plan.actions.update(name="elsewhere.actions.Deed")
    with pytest.raises(PlanningError, match=r"knows no action 'elsewhere\.actions\.Deed'"):
        copying.rerun(plan, from_step=step, input={"name": "x"})


def test_a_new_input_decides_about_the_limit_anew() -> None:
    """The key may be made of the input."""
    plan = triggering.trigger(undo.Visit, region="north")
    assert plan.steps.get().limit_key == "region north"

    made = copying.rerun(plan, input={"region": "south"})

    assert made.steps.get().limit_key == "region south"
    assert Limit.objects.get(pk="region south").most == 2


def test_some_plans_cannot_be_run_again() -> None:
    """The error says what to do instead."""
    deed = triggering.trigger(undo.Deed, name="a")
    complete(deed)
    revert = copying.reverse(deed)
    assert revert is not None
    with pytest.raises(WrongStateError, match=r"is a revert, which is not run again\. Resume it"):
        copying.rerun(revert)

    other = triggering.trigger(actions.RecordBoth, name="b")
    with pytest.raises(PlanningError, match=f"Step 1 belongs to plan {other.pk}, not to plan {deed.pk}"):
        copying.rerun(deed, from_step=named(other, "b"))
    with pytest.raises(PlanningError, match="Start from a run step; step 2 is of phase finalize"):
        copying.rerun(other, from_step=other.steps.get(phase="finalize"))

    with pytest.raises(LookupError):
        triggering.trigger(actions.Misplanned)
    with pytest.raises(WrongStateError, match=r"has no actions to run again\. Trigger it anew") as caught:
        copying.rerun(ExecutionPlan.objects.get(result="error"))
    assert caught.value.state == "stopped"
    with pytest.raises(WrongStateError, match=r"is planning: there is nothing to run again yet\. Trigger it anew"):
        copying.rerun(ExecutionPlan(state="planning"))


def test_steps_beside_the_flow_are_not_copied() -> None:
    """They were about the plan as it was."""
    plan = triggering.trigger(actions.RecordBoth, name="a")
    complete(plan)
    action = plan.actions.get()
    for number, phase in enumerate(("rescue", "skip", "hook"), start=3):
        plan.steps.create(action=action, number=number, phase=phase, queue="default")

    made = copying.rerun(plan, from_step=named(plan, "a"))

    assert list(made.steps.values_list("number", "phase")) == [(1, "run"), (2, "finalize")]


def test_the_size_of_a_plan_does_not_change_the_number_of_statements() -> None:
    """Rows go in by the thousand."""
    small, large = (triggering.trigger(undo.RowsOfDeeds, width=width) for width in (5, 500))
    for plan in (small, large):
        complete(plan, but="lower-4")

    def again(plan: ExecutionPlan) -> list[str]:
        step = named(plan, "lower-4")
        return statements(lambda: copying.rerun(plan, from_step=step))

    assert again(small) == again(large)


# --- with the engine -----------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_a_rerun_from_a_step_runs_only_what_is_left(engine: Engine, journal: Journal) -> None:
    """What is kept is not run again, yet what needs its output gets it."""
    # given a plan in which a step failed that consumes an output
    journal.break_("run b")
    plan = triggering.trigger(undo.Deeds)
    engine.run(plan)
    assert outcome(plan) == "paused/error"
    done = journal.lines

    # when it is run again from there, with another name
    made = control.rerun(plan, from_step=named(plan, "b"), input={"name": "b2"})
    engine.run(made)

    # then
    assert outcome(made) == "stopped/success"
    assert journal.lines[len(done) :] == ["run b2", "run d"]
    assert outcome(plan) == "paused/error", "the old plan is left as it was"


@pytest.mark.django_db(transaction=True)
def test_a_plan_can_be_run_again_as_a_whole(engine: Engine, journal: Journal) -> None:
    """With finalize and all."""
    plan = triggering.trigger(actions.Deploy)
    engine.run(plan)
    first = journal.lines

    made = control.rerun(plan)
    engine.run(made)

    assert outcome(made) == "stopped/success"
    assert sorted(journal.lines[len(first) :]) == sorted(first)
    assert list(made.actions.values_list("input", "output")) == list(plan.actions.values_list("input", "output"))
