"""Large random plans whose steps fail, wait and are given up, with an operator who does anything at any time.

More than twenty thousand steps a run. A failure names the seed; ``UNSTEADY_SEED`` replays it.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from typing import Any

import pytest
from django.db.models import Count

from dynflow_app import control, triggering
from dynflow_app.engine.director import result_of
from dynflow_app.models import Dependency, Event, ExecutionPlan, Step
from dynflow_app.states import PlanResult
from tests.engine import Engine
from tests.invariants import violations
from tests.testapp.unsteady import KINDS, Unsteady, UnsteadyPlan

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.servers]

PARTS, PLANS, STEPS = 5, 20, 210
ROUNDS = 100
"""More turns of the operator than any plan needs."""


@pytest.mark.parametrize("part", range(PARTS))
def test_plans_end_as_their_steps_say(engine: Engine, part: int) -> None:
    """In order, no step after its success, an end or a stated reason, and a result that follows from the steps."""
    seed = int(os.environ.get("UNSTEADY_SEED", random.randrange(10**9)))
    chance = random.Random(seed)
    print(f"UNSTEADY_SEED={seed}")  # noqa: T201 - shown on failure

    # given random plans
    plans = [triggering.trigger(UnsteadyPlan, program=program(chance)) for _ in range(PLANS)]
    assert Step.objects.filter(plan__in=plans).count() >= PLANS * STEPS

    # when they run, and an operator interferes, until all have stopped
    for _ in range(ROUNDS):
        engine.run()
        live = list(ExecutionPlan.objects.live())
        if not live:
            break
        for plan in live:
            assert has_reason(plan), f"plan {plan.pk} is {plan.state} and stuck: {numbers(plan)}"
            interfere(plan, chance)
        engine.pass_time(chance.choice([0, 4, 6]))
    assert not ExecutionPlan.objects.live().exists()

    # then
    assert violations() == []
    assert not Step.objects.exclude(alarm_at=None).exists(), "a stopped plan has a timer"
    assert not Event.objects.filter(state="waiting").exists()
    for plan in plans:
        check(plan)


def check(plan: ExecutionPlan) -> None:
    """Result from states; order from the noted times; nothing twice."""
    plan.refresh_from_db()
    steps = Step.objects.filter(plan=plan, phase="run")
    expected = result_of(Counter(steps.values_list("state", flat=True)), {})
    if plan.history.filter(verb="halt").exists() and expected != "error":
        expected = PlanResult.CANCELLED  # it was stopped before its time, whatever had become of its steps
    assert plan.result == expected
    by_id = {step.pk: f"{plan.pk}-{step.number}" for step in steps}
    for gate, before in Dependency.objects.filter(gate__plan=plan, step__isnull=False).values_list("gate", "step"):
        for after in steps.filter(gate=gate, pk__in=by_id, attempt__gt=0).values_list("pk", flat=True):
            if by_id[before] in Unsteady.ended and by_id[after] in Unsteady.began:
                assert Unsteady.ended[by_id[before]] < Unsteady.began[by_id[after]]
    twice = steps.filter(attempts__ended_as="succeeded").annotate(times=Count("attempts")).filter(times__gt=1)
    assert not twice.exists()


def numbers(plan: ExecutionPlan) -> Counter[tuple[str, str, str]]:
    """Of steps by phase, state and what was decided about them."""
    return Counter(plan.steps.values_list("phase", "state", "rescue"))


def has_reason(plan: ExecutionPlan) -> bool:
    """Paused on an error, or since a person skipped the last one; or a step waits for an event or a time."""
    if plan.state == "paused":
        return plan.steps.filter(state="error").exists() or plan.history.filter(verb="skip").exists()
    return plan.steps.filter(state="suspended").exists()


def interfere(plan: ExecutionPlan, chance: random.Random) -> None:
    """What an operator may do to a live plan."""
    if chance.random() < 0.01:
        chance.choice([control.cancel, control.abort, control.halt])(plan)
        return
    for step in plan.steps.filter(state="suspended").exclude(alarm="retry"):
        dice = chance.random()
        if dice < 0.4:
            control.send_event(step, "go")
        elif dice < 0.43:
            chance.choice([control.cancel, control.abort])(step)
    if plan.state != "paused":
        return
    for step in plan.steps.filter(state="error", phase="run"):
        step.refresh_from_db()
        if step.state == "error" and chance.random() < 0.3:
            control.skip(step)
    if chance.random() < 0.8:
        control.resume(plan)
    elif step := plan.steps.filter(state="error", phase="run").first():
        control.retry(step)


def program(chance: random.Random) -> list[Any]:
    """A random program of `STEPS` steps."""
    items: list[Any] = []
    number = 0

    def block(depth: int) -> list[Any]:
        nonlocal number
        inside: list[Any] = []
        for _ in range(chance.randint(1, 6)):
            if depth < 3 and chance.random() < 0.4:
                inside.append([chance.choice(["sequence", "concurrence"]), block(depth + 1)])
            else:
                refers = chance.sample(range(number), min(number, chance.choice([0, 0, 0, 1, 2])))
                deeds = chance.choices(["ok", "fail", "suspend", "look"], [20, 2, 2, 1], k=chance.randint(0, 3))
                inside.append(["step", sorted(refers), chance.choice(sorted(KINDS)), deeds])
                number += 1
        return inside

    while number < STEPS:
        items.append([chance.choice(["sequence", "concurrence"]), block(0)])
    return items
