"""A thousand plans over fifty resources, a random operator, and what must be true of the history of their locks."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable

import pytest

from dynflow_app import control
from dynflow_app.models import ExecutionPlan, ResourceLock
from dynflow_app.orchestrator import sweep
from dynflow_app.triggering import trigger
from tests.engine import Engine
from tests.invariants import conflicts, violations
from tests.testapp import locking
from tests.testapp.journal import Journal

pytestmark = pytest.mark.django_db(transaction=True)

RESOURCES = [f"r{n}" for n in range(50)]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [1])
def test_a_thousand_plans_over_fifty_resources(engine: Engine, journal: Journal, seed: int) -> None:
    chance = random.Random(seed)
    left = 1000
    while left or ExecutionPlan.objects.live().exists():
        # given plans with random locks that keep coming, some of which fail
        for _ in range(min(left, chance.randint(0, 120))):
            make(chance, journal, left)
            left -= 1
        # when an operator does anything to anybody, while they run
        for plan in chance.sample(list(ExecutionPlan.objects.live()), k=min(6, ExecutionPlan.objects.live().count())):
            interfere(plan, journal, chance)
        for _ in range(chance.randint(1, 4)):
            engine.decide() if chance.random() < 0.5 else engine.work()
        if chance.random() < 0.3:
            assert cycles(waits_for()) == []
        if not left:
            engine.run()
            for plan in ExecutionPlan.objects.live().filter(is_frozen=True):
                control.unfreeze(plan)
            for plan in ExecutionPlan.objects.filter(state="paused"):
                journal.repair(f"run {plan.steps.get(phase='run').action.input['name']}")
                control.resume(plan)

    # then all have ended, the sweep had nothing to do, and nobody ever had what another one had
    assert sweep.run_once(engine.term).locks == 0
    assert not ResourceLock.objects.live().exists()
    assert violations() == []
    locks = list(ResourceLock.objects.exclude(held_at=None).select_related("plan"))
    assert list(conflicts(locks)) == []
    assert list(passed(locks)) == []
    assert ResourceLock.objects.exclude(held_at=None).count() > 1000


def make(chance: random.Random, journal: Journal, number: int) -> None:
    """A plan with up to three locks."""
    chosen = chance.sample(RESOURCES, k=chance.randint(1, 3))
    shared = {resource for resource in chosen if chance.random() < 0.5}
    if chance.random() < 0.1:
        journal.break_(f"run {number}")
    action = chance.choices([locking.UseHost, locking.UseHostOrFail, locking.UseHostOrSkip], [10, 1, 1])[0]
    trigger(action, str(number), *(set(chosen) - shared), shared=tuple(shared))


def interfere(plan: ExecutionPlan, journal: Journal, chance: random.Random) -> None:
    """Do something that is allowed in its state."""
    plan.refresh_from_db()
    verbs = {"running": [control.halt, control.cancel], "paused": [control.halt, control.cancel]}.get(
        plan.state, [control.halt, control.cancel, control.unfreeze if plan.is_frozen else control.freeze]
    )
    if plan.state != "stopped":
        chance.choice(verbs)(plan)


def waits_for() -> dict[object, set[object]]:
    """Plans in line, and those that keep them there: whoever conflicts, and holds it or comes before."""
    graph: dict[object, set[object]] = defaultdict(set)
    lines: dict[str, list[ResourceLock]] = defaultdict(list)
    for lock in ResourceLock.objects.filter(state__in=("held", "waiting")):
        lines[lock.resource].append(lock)
    for line in lines.values():
        for mine in line:
            for other in line:
                is_before = other.state == "held" or (other.place or 0) < (mine.place or 0)
                if mine.state == "waiting" and is_before and mine != other and not (mine.is_shared and other.is_shared):
                    graph[mine.plan_id].add(other.plan_id)
    return graph


def cycles(graph: dict[object, set[object]]) -> list[object]:
    """Those that wait for each other, in vain."""
    left = {plan: set(others) for plan, others in graph.items()}
    while free := [other for others in left.values() for other in others if other not in left]:
        for others in left.values():
            others -= set(free)
        left = {plan: others for plan, others in left.items() if others}
    return list(left)


def passed(locks: Iterable[ResourceLock]) -> Iterable[str]:
    """Locks that were given to one who came later, though an earlier one wanted to have it, too."""
    by_resource: dict[str, list[ResourceLock]] = defaultdict(list)
    for lock in locks:
        by_resource[lock.resource].append(lock)
    for line in by_resource.values():
        line.sort(key=lambda lock: lock.place or 0)
        for n, late in enumerate(line):
            for early in line[:n]:
                if not (early.is_shared and late.is_shared) and late.held_at < early.held_at:  # type: ignore[operator]
                    yield f"{late} of plan {late.plan_id} before {early} of plan {early.plan_id}"
