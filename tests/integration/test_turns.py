"""A worker's turn, whichever way it is taken: by a function of the database, or in general. One contract for both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from dynflow_app import BaseAction, triggering
from dynflow_app.messages import Claimed
from dynflow_app.models import Attempt, Envelope, ExecutionPlan, Step, Ticket
from dynflow_app.signals import outcome_refused, plan_settled
from tests.engine import Engine, outcome, ready
from tests.testapp.actions import Campaign, Record, RecordBoth
from tests.testapp.locking import UseHost
from tests.testapp.many import Parent
from tests.turns import Taken, Turns, ledger, run_alone

pytestmark = pytest.mark.django_db(transaction=True)


class Nested(BaseAction):
    """Two concurrences in a sequence inside a sequence: what comes last waits for a gate that waits for a gate."""

    def plan(self) -> None:
        with self.sequence():
            with self.concurrence():
                with self.sequence():
                    self.plan_action(Record, name="a")
                    self.plan_action(Record, name="b")
                self.plan_action(Record, name="c")
            with self.concurrence():
                pass
            self.plan_action(Record, name="d")


class Heard(Record):
    """Has a hook."""

    def on_success(self) -> None:
        """Nothing to do."""


def names(steps: Sequence[Claimed]) -> list[str]:
    """Of claimed steps."""
    return sorted(step.input["name"] for step in steps)


# --- record and release ----------------------------------------------------------------------------------------------


def test_a_success_releases_what_waits_for_it(turns: Turns, way: Taken) -> None:
    # given a row of two after a row of two
    plan = triggering.trigger(Campaign, width=2)
    one, other = turns.claim()

    # when the first of the upper row ends, then nothing is released; when the second does, the lower row is
    turns.end([one])
    assert ready(plan) == []
    turned = turns.end([other])
    assert ready(plan) == ["b-0", "b-1"]
    assert turned.effects.ready == Counter(default=2)
    plan.refresh_from_db()
    assert (plan.state, plan.active_steps) == ("running", 2)
    assert way in ({}, {"claims": 1, "usual": 2}), "the function is for this"


def test_a_gate_behind_a_gate_opens_when_all_before_it_has_ended(turns: Turns) -> None:
    # given
    plan = triggering.trigger(Nested)
    first = turns.claim()
    assert names(first) == ["a", "c"]

    # when both heads end in one turn, then the rest of the inner sequence follows, and the last waits
    turns.end(first)
    (last_but_one,) = turns.claim()
    assert last_but_one.input["name"] == "b"
    assert ready(plan) == []
    turns.end([last_but_one])
    assert ready(plan) == ["d"]


def test_the_finalize_phase_begins_when_the_flow_has_ended(turns: Turns) -> None:
    plan = triggering.trigger(RecordBoth, name="a")
    turned = turns.end(turns.claim())
    assert turned.effects.ready == Counter(default=1)
    assert list(plan.steps.values_list("phase", "state").order_by("phase")) == [
        ("finalize", "ready"),
        ("run", "success"),
    ]
    (finalize,) = turns.claim()
    assert (finalize.phase, finalize.companions) == ("finalize", 0)


def test_a_first_success_leaves_no_row_and_a_second_try_does(turns: Turns) -> None:
    # given two steps, one of which was handed back once
    triggering.trigger(Campaign, width=2)
    one, other = turns.claim()
    turns.give_back([other])
    (other,) = turns.claim()
    assert other.attempt == 2

    # when both succeed
    turns.end([one, other])

    # then
    assert list(Attempt.objects.values_list("step", "number", "ended_as")) == [(other.step_id, 2, "succeeded")]
    assert all(step.started_at and step.ended_at for step in Step.objects.filter(state="success"))


def test_an_outcome_that_comes_too_late_changes_nothing(turns: Turns) -> None:
    # given a step that was handed back and claimed again
    plan = triggering.trigger(Record, name="a")
    (old,) = turns.claim()
    turns.give_back([old])
    turns.claim()
    before = ledger()
    refused = []

    def note(**facts: Any) -> None:
        refused.append(facts["attempt"])

    outcome_refused.connect(note)

    # when the first claim is answered after all, then that is refused
    try:
        turned = turns.end([old])
    finally:
        outcome_refused.disconnect(note)
    assert [each.attempt for each in turned.effects.refused] == refused == [1]
    assert ledger() == before
    assert outcome(plan) == "running/pending"


def test_outputs_are_kept_and_go_to_whoever_needs_them(turns: Turns) -> None:
    from tests.testapp.actions import TwoChains

    triggering.trigger(TwoChains)
    Step.objects.filter(queue="first").update(queue="second")
    Ticket.objects.filter(queue="first").update(queue="second")
    heads = turns.claim()
    turns.record(*map(run_alone, heads))
    following = turns.claim()
    assert names(following) == ["b1", "b2"]
    turns.record(*map(run_alone, following))
    assert sorted(step.action.input["of"] for step in Step.objects.filter(action__input__name__startswith="b")) == [
        "a1",
        "a2",
    ]
    assert all(step.action.planned_input for step in Step.objects.filter(action__input__name__startswith="b"))


# --- the end of plans ------------------------------------------------------------------------------------------------


def settled_by(turns: Turns, steps: Sequence[Claimed]) -> list[tuple[Any, str, str]]:
    """What the signal says while these end."""
    heard = []

    def note(plan_id: Any, state: str, result: str, **_: Any) -> None:
        heard.append((plan_id, state, result))

    plan_settled.connect(note)
    try:
        turns.end(steps)
    finally:
        plan_settled.disconnect(note)
    return heard


def test_a_plan_about_which_there_is_nothing_to_decide_is_over_at_once(turns: Turns) -> None:
    plan = triggering.trigger(Record, name="a")
    assert settled_by(turns, turns.claim()) == [(plan.pk, "stopped", "success")]
    assert outcome(plan) == "stopped/success"
    assert plan.ended_at is not None
    assert not Envelope.objects.exists()
    assert not Ticket.objects.exists()


@pytest.mark.parametrize("why", ["hooks", "locks", "others wait for it"])
def test_a_plan_that_others_are_concerned_with_is_left_to_the_orchestrator(
    engine: Engine, turns: Turns, why: str
) -> None:
    # given a plan whose end concerns somebody
    if why == "hooks":
        plan = triggering.trigger(Heard, name="a")
    elif why == "locks":
        plan = triggering.trigger(UseHost, "a", "h1")
        engine.decide()
    else:
        plan = triggering.trigger(Record, name="a")
        triggering.chain([plan], Record, name="b")
        engine.decide()

    # when its last step ends, then the orchestrator is told, and rung for
    assert settled_by(turns, turns.claim()) == []
    assert outcome(plan) == "running/pending"
    assert list(Envelope.objects.values_list("kind", "plan")) == [("settled", plan.pk)]
    engine.decide()
    assert outcome(plan) == "stopped/success"


def test_a_sub_plan_that_ends_writes_to_its_parent(engine: Engine, turns: Turns) -> None:
    # given a parent that has made two sub-plans
    parent = triggering.trigger(Parent, names=["x", "y"])
    (spawning,) = turns.claim()
    turns.record(run_alone(spawning))

    # when the run steps and then the finalize steps of the children end, in one turn each
    turns.end(turns.claim())
    turns.end(turns.claim())

    # then they have stopped, and the parent's leader is told how many
    assert set(ExecutionPlan.objects.filter(parent_step=spawning.step_id).values_list("state", "result")) == {
        ("stopped", "success")
    }
    tallies = Envelope.objects.filter(kind="sub-plans").values_list("plan", "step_id", "payload")
    assert list(tallies) == [(parent.pk, spawning.step_id, {"success": 2})]
    engine.run(parent)
    assert outcome(parent) == "stopped/success"
