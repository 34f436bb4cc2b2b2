"""Which steps a worker's claim takes, whichever way its turn is taken. One contract for both."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.db import connections

from dynflow_app import BaseAction, triggering
from dynflow_app.models import Step, Ticket, World, WorldKind
from dynflow_app.processes.registration import register
from dynflow_app.triggering import TriggerOptions
from dynflow_app.worker.recorder import Written
from tests.engine import Engine, names_by_state, ready
from tests.testapp.actions import Campaign, Record, RecordFirst
from tests.turns import Turns

pytestmark = pytest.mark.django_db(transaction=True)


class Patient(Record):
    """Waits for a worker for a while only."""

    start_timeout = timedelta(minutes=1)


class Then(BaseAction):
    """One of these after another step."""

    def plan(self, action: type[BaseAction]) -> None:
        with self.sequence():
            self.plan_action(Record, name="first")
            self.plan_action(action, name="then")


def test_claims_go_by_queue_then_priority_then_turn(turns: Turns) -> None:
    # given steps in another queue, an urgent one that came last, and two plans in line
    class Elsewhere(Record):
        queue = "second"

    elsewhere = triggering.trigger(Elsewhere, name="elsewhere")
    large = triggering.trigger(Campaign, width=4)
    small = triggering.trigger(Record, name="small")
    urgent = triggering.trigger(Record, name="urgent", options=TriggerOptions(priority=1))
    foreign = triggering.trigger(RecordFirst, name="not ours")

    # then one at a time they come like this
    order = [turns.claim(1)[0].plan_id for _ in range(7)]
    assert order == [urgent.pk, large.pk, large.pk, small.pk, large.pk, large.pk, elsewhere.pk]
    assert turns.claim() == []
    assert ready(foreign) == ["not ours"]


def test_a_world_that_was_declared_dead_gets_nothing(engine: Engine, turns: Turns) -> None:
    plan = triggering.trigger(Record, name="a")
    World.objects.filter(pk=engine.world.pk).invalidate()
    assert turns.claim() == []
    assert ready(plan) == ["a"]
    assert Ticket.objects.claimable().count() == 1


def test_two_claims_at_once_never_take_the_same_step(engine: Engine, turns: Turns) -> None:
    # given many steps, and two workers
    triggering.trigger(Campaign, width=60)
    other = Turns(register(WorldKind.EXECUTOR))
    taken: dict[str, list[int]] = {"one": [], "other": []}
    barrier = threading.Barrier(2)

    def claim_all(name: str, worker: Turns) -> None:
        barrier.wait()
        try:
            while steps := worker.recorder.turn(Written(), 5).claimed:
                taken[name] += [step.step_id for step in steps]
        finally:
            if name == "other":
                connections.close_all()

    # when both claim all they get
    thread = threading.Thread(target=claim_all, args=("other", other))
    thread.start()
    claim_all("one", turns)
    thread.join()

    # then each step was taken once, and belongs to who took it
    assert sorted(taken["one"] + taken["other"]) == sorted(
        Step.objects.filter(state="running").values_list("pk", flat=True)
    )
    assert len(taken["one"] + taken["other"]) == 60
    assert set(Step.objects.filter(state="running").values_list("attempt", flat=True)) == {1}
    assert set(Ticket.objects.filter(world=engine.world).values_list("step", flat=True)) == set(taken["one"])


def test_what_was_handed_back_comes_first_again(turns: Turns) -> None:
    # given a step that was claimed before others, and handed back
    triggering.trigger(Campaign, width=5)
    early, *_ = turns.claim(2)
    turns.give_back([early])

    # when the next claim looks, then it comes before all that came later; its queue was left by a claim that was full
    turns.recorder._bounds._ends.clear()
    (again,) = turns.claim(1)
    assert (again.step_id, again.attempt) == (early.step_id, 2)


def test_a_step_that_waits_for_a_while_only_gets_its_alarm_when_it_is_released(turns: Turns) -> None:
    plan = triggering.trigger(Then, action=Patient)
    turned = turns.end(turns.claim())
    released = Step.objects.get(plan=plan, state="ready")
    assert released.alarm == "start"
    assert released.alarm_at is not None
    assert released.ready_at is not None
    assert (released.alarm_at - released.ready_at).total_seconds() == pytest.approx(60, abs=0.01)
    assert turned.effects.rings_orchestrator, "a timer was set"
    (step,) = turns.claim()
    assert Step.objects.filter(pk=step.step_id, alarm="", alarm_at=None).exists()
    assert names_by_state(plan) == {"success": ["first"], "running": ["then"]}
