"""Fair turns: whoever comes new is served beside those who have thousands in line, not after them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import transaction

from dynflow_app import BaseAction, SubPlansAction, triggering
from dynflow_app.actions.sub_plans import SubPlan
from dynflow_app.exceptions import PlanningError
from dynflow_app.ledger import turning
from dynflow_app.ledger.claiming import claim
from dynflow_app.ledger.recording import record
from dynflow_app.messages import Claimed, EndedAs
from dynflow_app.models import ExecutionPlan, Ticket, WorldKind
from dynflow_app.processes.registration import register
from dynflow_app.reading.explaining import FindingCode, explain
from dynflow_app.states import StepState
from dynflow_app.triggering import TriggerOptions
from dynflow_app.worker.outcomes import blank
from dynflow_app.worker.recorder import Recorder, Written
from tests.engine import Engine
from tests.turns import run_alone

pytestmark = pytest.mark.django_db(transaction=True)

MANY = 2000


class One(BaseAction):
    """A single step."""

    queue = "second"

    def run(self) -> None:
        """Nothing to do."""


class Urgent(One):
    """Comes before others."""

    priority = 1


class Wide(BaseAction):
    """Many steps side by side, each of which ends at once."""

    queue = "second"

    def plan(self, width: int, tenant: str = "") -> None:
        self.plan_self(width=width, tenant=tenant)
        for _ in range(width - 1):
            self.plan_action(One)

    def run(self) -> None:
        """Nothing to do."""


class OfTenant(Wide):
    """All plans of a tenant share their turns."""

    fairness_key = "{tenant}"


class Preferred(Wide):
    """Says by itself how many turns its plans get."""

    fairness_weight = 3


class Parent(SubPlansAction):
    """Many sub-plans of one step."""

    queue = "second"
    batch_size = 500

    def total(self) -> int:
        return int(self.input["children"])

    def sub_plans(self, start: int, stop: int) -> Iterator[SubPlan]:
        for _ in range(start, stop):
            yield self.sub_plan(One)


def claimed(engine: Engine, limit: int) -> list[Claimed]:
    """What the next claim takes."""
    with transaction.atomic():
        return claim(engine.world.pk, ["second"], limit, worker="w")


def end(steps: list[Claimed]) -> None:
    """They succeed."""
    with transaction.atomic():
        record([blank(step, StepState.SUCCESS, EndedAs.SUCCEEDED) for step in steps], worker="w")


def shares(engine: Engine, *, turns: int) -> Counter[Any]:
    """How many of the next turns each plan gets; one claim for each, as from a worker with one thread."""
    got: Counter[Any] = Counter()
    for _ in range(turns):
        (step,) = claimed(engine, 1)
        got[step.plan_id] += 1
        end([step])
    return got


def wide(width: int, action: type[Wide] = Wide, tenant: str = "", **options: Any) -> ExecutionPlan:
    """A plan of that many ready steps."""
    return triggering.trigger(action, width=width, tenant=tenant, options=TriggerOptions(**options))


# --- turns ---------------------------------------------------------------------------------------------------------


def test_a_small_plan_does_not_wait_for_a_large_one(engine: Engine) -> None:
    # given a plan with thousands of steps in line, of which some have been served
    wide(MANY)
    end(claimed(engine, 100))

    # when another one comes
    small = triggering.trigger(One)

    # then it is served with the next few
    assert small.pk in {step.plan_id for step in claimed(engine, 5)}


@pytest.mark.servers
def test_a_worker_that_remembers_where_it_was_looks_back_in_time(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A busy worker does not look at what is before its last claim, but once in a while it does."""
    # given a worker whose last claim emptied the queue, and then a large plan and a small one
    monkeypatch.setattr(turning, "UNBOUNDED", 60.0)
    recorder = Recorder(engine.world, ["second"])
    wide(50)
    assert len(recorder.turn(Written(), 50).claimed) == 50
    wide(MANY)
    small = triggering.trigger(One)
    recorder.turn(Written(), 10)

    # when it has remembered that for long enough
    recorder._bounds._since -= turning.UNBOUNDED

    # then the small plan is served with the next few
    assert small.pk in {step.plan_id for step in recorder.turn(Written(), 5).claimed}


def test_two_large_plans_take_turns(engine: Engine) -> None:
    # given a plan that has been served for a while, and one that came later
    first = wide(300)
    end(claimed(engine, 150))
    second = wide(300)

    # then from now on each gets half
    got = shares(engine, turns=40)
    assert abs(got[first.pk] - got[second.pk]) <= 2


def test_who_was_away_gets_nothing_for_it_later(engine: Engine) -> None:
    """Turns are not saved up: a plan that had nothing to do does not catch up."""
    # given a plan whose few steps were served long ago
    early = wide(2, fairness_key="early")
    end(claimed(engine, 2))
    late = wide(300)
    end(claimed(engine, 100))

    # when it has steps again
    again = wide(100, fairness_key="early")

    # then they take turns
    got = shares(engine, turns=40)
    assert abs(got[late.pk] - got[again.pk]) <= 2
    assert early.pk not in got


def test_priorities_are_strict(engine: Engine) -> None:
    # given many steps, and two urgent ones that came later
    wide(100)
    urgent = triggering.trigger(Urgent)
    more_urgent = triggering.trigger(One, options=TriggerOptions(priority=5))

    # then these come first, the most urgent of them at the very front
    assert [step.plan_id for step in (claimed(engine, 1) + claimed(engine, 1))] == [more_urgent.pk, urgent.pk]


# --- keys and weights ----------------------------------------------------------------------------------------------


def tenants(action: type[Wide]) -> list[ExecutionPlan]:
    """Two plans of one tenant, and one of another."""
    if action is OfTenant:
        return [wide(50, OfTenant, tenant) for tenant in ("a", "a", "b")]
    return [wide(50, Wide, fairness_key=tenant) for tenant in ("a", "a", "b")]


@pytest.mark.parametrize("action", [OfTenant, Wide], ids=["class", "option"])
def test_plans_of_a_tenant_share_its_turns(engine: Engine, action: type[Wide]) -> None:
    # given a key from the input, or from the trigger
    one, two, other = tenants(action)

    # then both of one tenant get as much together as the one of another
    got = shares(engine, turns=40)
    assert abs(got[one.pk] + got[two.pk] - got[other.pk]) <= 2


def test_the_trigger_overrules_the_class(engine: Engine) -> None:
    plan = wide(2, OfTenant, "a", fairness_key="mine")
    assert set(Ticket.objects.filter(step__plan=plan).values_list("fairness_key", flat=True)) == {"mine"}


def test_a_worker_that_plans_finds_the_key_of_the_input(engine: Engine) -> None:
    plan = wide(2, OfTenant, "a", plan_in_worker=True)
    engine.decide()
    engine.work("second")
    plan.refresh_from_db()
    assert plan.fairness_key == "a"


@pytest.mark.parametrize("by_class", [True, False])
def test_a_weight_of_three_gets_three_turns_for_one(engine: Engine, by_class: bool) -> None:
    # given two plans, one of which counts more
    plain = wide(100)
    heavy = wide(100, Preferred) if by_class else wide(100, fairness_weight=3)

    # then it gets three quarters
    got = shares(engine, turns=40)
    assert got[heavy.pk] == pytest.approx(30, abs=2)
    assert got[plain.pk] == pytest.approx(10, abs=2)


@pytest.mark.parametrize("weight", [0, -1, "x", float("nan"), float("inf"), 1001])
def test_a_weight_is_a_number_that_means_something(db: None, weight: Any) -> None:
    with pytest.raises(PlanningError, match="fairness_weight"):
        triggering.trigger(One, options=TriggerOptions(fairness_weight=weight))

    class Wrong(One):
        fairness_weight = weight

    with pytest.raises(PlanningError, match="fairness_weight"):
        triggering.trigger(Wrong)
    assert not ExecutionPlan.objects.exists()


# --- families ------------------------------------------------------------------------------------------------------


def test_sub_plans_share_the_turns_of_their_family(engine: Engine) -> None:
    # given a parent with hundreds of sub-plans
    parent = triggering.trigger(Parent, children=500)
    run_one(engine)
    assert ExecutionPlan.objects.filter(parent_step__plan=parent).count() == 500

    # when a plan of ten steps comes
    small = wide(10)

    # then it has every other turn, as if the family were one plan
    got = shares(engine, turns=20)
    assert got[small.pk] == pytest.approx(10, abs=1)


def test_the_steps_of_a_parent_are_of_its_family(engine: Engine) -> None:
    # given a parent that has made sub-plans
    parent = triggering.trigger(Parent, children=3)
    own = set(Ticket.objects.values_list("fairness_key", flat=True))
    run_one(engine)

    # then their tickets have the key of its own
    theirs = set(Ticket.objects.exclude(step__plan=parent).values_list("fairness_key", flat=True))
    assert theirs == own


def run_one(engine: Engine) -> None:
    """Let a worker run what makes the sub-plans, and nothing of them."""
    (step,) = claimed(engine, 1)
    run_alone(step)


# --- what people are told ------------------------------------------------------------------------------------------


def test_who_waits_for_a_turn_is_told_how_many_come_before(engine: Engine) -> None:
    # given a worker, and a plan behind others that is urgent for nobody
    register(WorldKind.EXECUTOR)
    wide(30)
    last = triggering.trigger(One, options=TriggerOptions(priority=-1))

    # when somebody asks why it waits
    (finding,) = explain(last)

    # then
    assert finding.code == FindingCode.TURN_WAITS
    assert "waits for its turn in the queue 'second'" in finding.message
    assert "about 30 steps before it" in finding.message
