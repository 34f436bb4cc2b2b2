"""What a function of PostgreSQL does at once, and what the general way does in many statements, is the same.

Random plans are run twice, by a worker whose every choice follows from a seed: once as usual, once without the
functions. Both ledgers are compared row by row. A failure names the seed; ``BOTH_WAYS_SEED`` replays it.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
from django.db import connection

from dynflow_app import control, triggering
from dynflow_app.ledger import turning
from dynflow_app.messages import EndedAs
from dynflow_app.models import ExecutionPlan, Step
from dynflow_app.orchestrator import inbox
from dynflow_app.states import StepState
from dynflow_app.worker.outcomes import blank
from dynflow_app.worker.recorder import Recorder, Written
from tests.engine import Engine
from tests.invariants import violations
from tests.testapp import mixed
from tests.turns import MODELS, Taken, Worker, functions, general, ledger

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.servers]

PARTS = [True] * 8 + [False] * 2
"""Of each: whether its plans are of the kind that the functions are for; otherwise there is everything."""
PLANS, STEPS = 22, 7
HOUR = 3600
LOOKS = 0.1
"""How often both ledgers are compared on the way."""
ROUNDS = 150
"""More turns of orchestrator and operator than any of these plans needs."""


@pytest.mark.parametrize(("part", "is_common"), list(enumerate(PARTS)))
def test_both_ways_leave_the_same_ledger(engine: Engine, part: int, is_common: bool) -> None:
    # given a seed
    seed = int(os.environ.get("BOTH_WAYS_SEED", random.randrange(10**9)))
    print(f"BOTH_WAYS_SEED={seed}")  # noqa: T201 - shown on failure

    # when the same plans are run both ways
    taken, first = lived_through(engine, seed, functions, is_common=is_common)
    _, second = lived_through(engine, seed, general, is_common=is_common)

    # then whenever somebody looked, both ledgers said the same
    for number, (one, other) in enumerate(zip(first, second, strict=True)):
        for table, rows in one.items():
            found = differences(rows, other[table])
            assert not found, "\n".join([f"{table}, look {number}", *found])

    # and the functions did a good part of it, and refused what is not for them
    assert taken["usual"] > 0
    assert taken["unusual"] > 0 or is_common


UNUSUAL = ["a limit", "a start time-out", "an event", "fail fast", "an old attempt", "a plan that was halted"]


@pytest.mark.parametrize("what", UNUSUAL)
def test_what_is_unusual_leaves_nothing_behind(engine: Engine, what: str) -> None:
    # given a step that has succeeded, about which or behind which there is something unusual
    kind = {"a limit": "Limited", "a start time-out": "Hasty"}.get(what, "Unsteady")
    action = mixed.FailingFast if what == "fail fast" else mixed.Mixed
    steps = [["step", [], "Unsteady", []], ["step", [], kind, []]]
    plan = triggering.trigger(action, program=[["sequence", steps]])
    engine.decide()
    recorder = Recorder(engine.world, ["default"])
    (claimed,) = recorder.turn(Written(), 5).claimed
    done = blank(claimed, StepState.SUCCESS, EndedAs.SUCCEEDED)
    if what == "an event":
        control.send_event(Step.objects.get(pk=claimed.step_id), "go")
    elif what == "an old attempt":
        done.attempt -= 1
    elif what == "a plan that was halted":
        control.halt(plan)
    before = ledger()

    # when the function is to record it, and to claim what follows
    with pytest.raises(turning.UnusualError):
        turning.turn([done], worker="w", world_id=engine.world.pk, queues=["default"], limit=5)

    # then nothing has happened, and the general way does it all
    assert ledger() == before
    with functions() as taken:
        turned = recorder.turn(Written(outcomes=[done]), 5)
    assert taken == {"unusual": 1}
    assert len(turned.effects.refused) == (what in ("an old attempt", "a plan that was halted"))
    assert len(turned.claimed) == (what in ("a limit", "a start time-out", "an event", "fail fast"))


def lived_through(
    engine: Engine, seed: int, way: Callable[[], AbstractContextManager[Taken]], *, is_common: bool
) -> tuple[Taken, list[dict[str, list[str]]]]:
    """Random plans, run this way; and what the ledger said meanwhile."""
    chance = random.Random(seed)
    looks = []
    forget_everything()
    with way() as taken:
        for number in range(PLANS if is_common else PLANS // 2):
            options = triggering.TriggerOptions(
                label=f"p{number}", priority=chance.choice([0, 0, 1]), plan_in_worker=chance.random() < 0.1
            )
            program = mixed.program(chance, size=chance.randint(1, STEPS), is_common=is_common)
            triggering.trigger(chance.choice(mixed.PLANS), program=program, options=options)
        looks.append(ledger())
        worker = Worker(engine.world, chance)
        for _ in range(ROUNDS):
            moved = read_letters(engine) + worker.work()
            if chance.random() < LOOKS:
                looks.append(ledger())
            if moved:
                continue
            if not ExecutionPlan.objects.live().exists():
                break
            operate(chance)
            engine.pass_time(HOUR)
            engine.decide()
        looks.append(ledger())
        assert violations() == []
    assert not ExecutionPlan.objects.live().exists(), Counter(Step.objects.values_list("phase", "state", "alarm"))
    return taken, looks


def read_letters(engine: Engine) -> int:
    """Let the orchestrator decide, but no timer go off: how long a run takes must not matter."""
    read = 0
    while number := inbox.run_once(engine.term):
        read += number
    return read


def operate(chance: random.Random) -> None:
    """What an operator does when nothing moves, in the same order each time."""
    for step in sorted(Step.objects.filter(state="suspended", alarm="timeout"), key=place_of):
        if chance.random() < 0.5:
            control.send_event(step, "go", optional=True)
    for plan in sorted(ExecutionPlan.objects.filter(state="paused"), key=lambda plan: tuple(places(plan))):
        for step in plan.steps.filter(state="error").order_by("number"):
            step.refresh_from_db()
            if step.state == "error" and chance.random() < 0.4:
                control.skip(step)
        plan.refresh_from_db()
        if plan.state == "paused":
            control.resume(plan)


def places(plan: ExecutionPlan) -> list[Any]:
    """Where a plan stands among its family, from the top."""
    parent = plan.parent_step
    return [*places(parent.plan), parent.number, plan.position or 0] if parent else [int(plan.label[1:])]


def place_of(step: Step) -> list[Any]:
    """Where a step stands."""
    return [*places(step.plan), step.number]


def differences(one: list[str], other: list[str]) -> list[str]:
    """Rows that only one of them has."""
    left, right = Counter(one), Counter(other)
    only = [sorted((left - right).elements())[:3], sorted((right - left).elements())[:3]]
    return [f"{way}: {row}" for way, rows in zip(("function", "general"), only, strict=True) for row in rows]


def forget_everything() -> None:
    """An empty ledger."""
    tables = ", ".join(model._meta.db_table for model in MODELS)
    with connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {tables} CASCADE")
