"""Plans that undo others: exactly the completed steps, in exactly the reverse order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynflow_app import control, triggering
from dynflow_app.models import Dependency, Envelope, Gate
from dynflow_app.planning import copying
from dynflow_app.triggering import TriggerOptions
from tests.engine import Engine, outcome
from tests.flows import EXAMPLES, complete, example, live_through, order_of, run_to_the_end, statements
from tests.integration.test_random_plans import as_lists
from tests.testapp import actions, undo
from tests.testapp.journal import Journal
from tests.unit.engine.test_flow_properties import PROGRAMS, Block, required_order

pytestmark = pytest.mark.django_db


@EXAMPLES
@given(program=PROGRAMS, seed=st.integers(0, 2**32))
def test_a_revert_plan_has_exactly_the_reverse_order(program: Block, seed: int) -> None:
    """Whatever was skipped, has failed, or cannot be undone: it orders what is before it and after it all the same."""
    with example(seed) as chance:
        # given a plan that was left somewhere on its way, part of which can be undone
        required = required_order(program)
        undoable = {number for number in required if chance.random() < 0.7}
        plan = triggering.trigger(undo.RandomDeeds, program=as_lists(program), undoable=sorted(undoable))
        succeeded = live_through(plan, chance)

        # when it is reverted
        made = copying.reverse(plan)

        # then each completed step that can be undone is, after all that had to come after it, and nothing else
        reverted = succeeded & undoable
        assert {int(step.action.input["name"]) for step, yes in copying.reverse_preview(plan) if yes} == reverted
        if made is None:
            assert not reverted
            return
        expected = {number: {later for later in reverted if number in required[later]} for number in reverted}
        assert order_of(made, "revert") == expected
        assert set(run_to_the_end(made, chance)) == reverted
        assert Dependency.objects.filter(gate__plan=made).count() <= 2 * plan.steps.count()
        assert not Gate.objects.filter(plan=made, steps=None, is_awaited=False).exists(), "nobody needs this gate"


def test_joins_cost_no_more_when_they_are_reversed() -> None:
    """300 steps after 300 others are undone with 300 dependencies and one gate."""
    plan = triggering.trigger(undo.RowsOfDeeds, width=300)
    complete(plan)

    made = copying.reverse(plan)

    assert made is not None
    assert made.steps.count() == 600
    assert Gate.objects.filter(plan=made).count() == 1
    assert Dependency.objects.filter(gate__plan=made).count() == 300


def test_a_revert_plan_says_what_it_is() -> None:
    """It is new, and has values only: nothing of it refers to the plan that it undoes."""
    # given a completed plan with some options
    options = TriggerOptions(label="Move", priority=3, tags=("x",), idempotency_key="once")
    plan = triggering.trigger(undo.Deeds, options=options)
    complete(plan)

    # when it is reverted
    made = copying.reverse(plan, triggered_by="operator")

    # then the new plan has all that the orchestrator needs, in its own order
    assert made is not None
    made.refresh_from_db()
    assert (made.label, made.state, made.result) == ("Revert of Move", "planned", "pending")
    assert (made.made_from, made.made_as, made.triggered_by) == (plan, "revert", "operator")
    assert (made.queue, made.priority, made.tags, made.hooks) == (plan.queue, 3, ["x"], [])
    assert (made.idempotency_key, made.fail_fast, made.is_frozen) == (None, False, False)
    assert [str(envelope.kind) for envelope in Envelope.objects.filter(plan=made)] == ["planned"]
    steps = list(made.steps.select_related("action"))
    assert [(step.number, step.action.number, step.action.input["name"]) for step in steps] == [
        (1, 1, "d"),
        (2, 2, "c"),
        (3, 3, "b"),
        (4, 4, "a"),
    ]
    assert {(step.phase, step.state, step.attempt, step.is_idempotent) for step in steps} == {
        ("revert", "pending", 0, True)
    }
    assert steps[2].action.input == {"name": "b", "of": "a"}
    assert steps[2].action.output == {"value": "b"}
    assert steps[2].action.consumes == []
    assert [(step.action.input["name"], yes) for step, yes in copying.reverse_preview(plan)] == [
        ("d", True),
        ("trifle", False),
        ("c", True),
        ("b", True),
        ("a", True),
    ]


def test_there_may_be_nothing_to_undo() -> None:
    """Then no plan is made; also of a revert plan, for a revert is not reverted."""
    plan = triggering.trigger(actions.Review)
    complete(plan)
    assert copying.reverse(plan) is None

    deed = triggering.trigger(undo.Deed, name="a")
    assert copying.reverse(deed) is None, "it has not run yet"
    complete(deed)
    revert = copying.reverse(deed)
    assert revert is not None
    complete(revert)
    assert copying.reverse(revert) is None


def test_what_this_process_does_not_know_is_left_to_a_worker_that_does() -> None:
    """An unknown class may well define revert(); a worker waits for it rather than forget it."""
    plan = triggering.trigger(actions.Record, name="x")
    complete(plan)
    plan.actions.update(name="elsewhere.actions.Record")

    made = copying.reverse(plan)

    assert made is not None
    assert made.steps.get().is_idempotent is False


def test_the_size_of_a_plan_does_not_change_the_number_of_statements() -> None:
    """Rows go in by the thousand."""
    small, large = (triggering.trigger(undo.RowsOfDeeds, width=width) for width in (5, 500))
    for plan in (small, large):
        complete(plan)

    assert statements(lambda: copying.reverse(small)) == statements(lambda: copying.reverse(large))


# --- with the engine -----------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_what_was_done_is_undone_in_reverse_order(engine: Engine, journal: Journal) -> None:
    """Each step gets what it had produced; what cannot be undone is passed over."""
    # given a plan that has come to its end
    plan = triggering.trigger(undo.Deeds)
    engine.run(plan)
    assert outcome(plan) == "stopped/success"
    done = journal.lines

    # when it is reverted
    made = control.revert(plan)
    engine.run(made)

    # then
    assert outcome(made) == "stopped/success"
    undone = journal.lines[len(done) :]
    assert (undone[0], sorted(undone[1:3]), undone[3]) == ("revert d", ["revert b", "revert c"], "revert a")
    assert len(undone) == 4


@pytest.mark.django_db(transaction=True)
def test_a_failed_revert_pauses_the_revert_plan(engine: Engine, journal: Journal) -> None:
    """A person repairs the cause and resumes; what is undone already is not undone again."""
    # given a plan of which one step cannot be undone at first
    plan = triggering.trigger(undo.Deeds)
    engine.run(plan)
    journal.break_("revert b")
    made = control.revert(plan)
    engine.run(made)
    assert outcome(made) == "paused/error"
    assert "revert a" not in journal.lines, "it comes after what failed"

    # when it is repaired and resumed
    journal.repair("revert b")
    control.resume(made)
    engine.run(made)

    # then
    assert outcome(made) == "stopped/success"
    tries = {name: journal.lines.count(f"revert {name}") for name in "abcd"}
    assert tries == {"a": 1, "b": 2, "c": 1, "d": 1}
