"""A worker and the ledger compare what they believe; where they differ, nothing stays so and nothing runs twice."""

from __future__ import annotations

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from dynflow_app import triggering
from dynflow_app.ledger.recovery import reclaim
from dynflow_app.messages import Claimed
from dynflow_app.models import Attempt, World
from dynflow_app.worker.comparison import Comparison
from dynflow_app.worker.hand import Hand
from dynflow_app.worker.inbox import Inbox
from dynflow_app.worker.invocation import Invocation
from dynflow_app.worker.processes.started import StartedSteps
from tests.engine import Engine, ready
from tests.testapp.actions import Campaign, Record
from tests.turns import Turns

pytestmark = pytest.mark.django_db(transaction=True)


def test_what_the_ledger_believes_to_run_here_and_does_not_is_handed_back(engine: Engine, turns: Turns) -> None:
    # given a worker with one step in hand, which claimed two more without getting to know it
    plan = triggering.trigger(Campaign, width=5)
    (mine,) = turns.claim(1)
    turns.claim(2)
    assert len(ready(plan)) == 2

    # when it compares
    healed = comparison(engine).make(in_hand(mine))

    # then those two are ready again without a trace, and somebody is told
    assert len(ready(plan)) == 4
    assert healed.effects.ready.total() == 2
    assert plan.steps.get(state="running").pk == mine.step_id
    assert not Attempt.objects.exists()
    assert comparison(engine).make(in_hand(mine)).effects.ready.total() == 0


def test_another_attempt_of_a_step_in_hand_is_not_in_hand(engine: Engine, turns: Turns) -> None:
    # given a step of which the first attempt is in hand, while the ledger has the second one running here
    plan = triggering.trigger(Record, name="a")
    (first,) = turns.claim(1)
    take_back(engine)
    turns.claim(1)
    assert plan.steps.get().attempt == 2

    # when the worker compares, then the second one is handed back, and the code of the first one is to end
    healed = comparison(engine).make(hand := in_hand(first))
    assert ready(plan) == ["a"]
    assert healed.taken_back == list(hand.values())


def test_code_of_a_step_that_was_taken_back_is_to_end(engine: Engine, turns: Turns) -> None:
    # given steps in hand: one that was taken back, one that goes on, one whose plan was halted
    plan = triggering.trigger(Campaign, width=3)
    hand = in_hand(*turns.claim(3))
    taken, _, halted = hand
    take_back(engine, taken)
    plan.steps.filter(pk=halted).update(state="cancelled")

    # then only the first one runs in vain and may do harm
    assert comparison(engine).make(hand).taken_back == [hand[taken]]
    plan.steps.filter(pk=halted).update(state="running")


def test_a_look_finds_what_is_ready_in_the_queues_of_a_worker(engine: Engine) -> None:
    # given a step in a queue whose bell nobody heard
    class Elsewhere(Record):
        queue = "second"

    assert not comparison(engine).make({}).is_anything_ready
    triggering.trigger(Elsewhere, name="a")

    # then workers of that queue find it
    assert comparison(engine).make({}).is_anything_ready
    assert comparison(engine, "first", "second").make({}).is_anything_ready
    assert not comparison(engine, "first").make({}).is_anything_ready


def test_a_look_is_one_statement_and_is_noted(engine: Engine) -> None:
    World.objects.update(looked_at=None)
    with CaptureQueriesContext(connection) as sent:
        comparison(engine).make({})
    assert len(sent) == 1
    assert World.objects.get(pk=engine.world.pk).looked_at is not None


def test_the_end_of_an_attempt_says_nothing_about_the_next_one(engine: Engine, turns: Turns) -> None:
    # given a step that ended in a transaction of its own and was claimed again before that got about
    triggering.trigger(Record, name="a")
    (first,) = turns.claim(1)
    take_back(engine)
    (second,) = turns.claim(1)
    hand = Hand(engine.world, Inbox(), StartedSteps(), threads=0)
    hand._threads.submit = lambda *_: None  # type: ignore[method-assign] # it does not run here
    hand.take([first], {})
    hand.take([second], {})

    # when the worker hears of the end of the first attempt, then the second one is still in hand
    hand.is_over(first.step_id, first.attempt)
    assert hand.invocations[second.step_id].step is second
    hand.is_over(second.step_id, second.attempt)
    assert not hand
    assert hand.started.room == StartedSteps().room


def comparison(engine: Engine, *queues: str) -> Comparison:
    return Comparison(engine.world, queues or None)


def take_back(engine: Engine, *only: int) -> None:
    with transaction.atomic():
        reclaim(engine.world.pk, worker="w", only=only or None, started=())


def in_hand(*claimed: Claimed) -> dict[int, Invocation]:
    return {step.step_id: Invocation(step) for step in claimed}
