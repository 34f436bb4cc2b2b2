"""What is counted: the ways to use the engine, and what one unit of each is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from dynflow_app.models import ExecutionPlan
from dynflow_app.triggering import trigger
from project.bench.actions import Chain, Family, Fan, NoOp
from tests.cost.rows import STEPS, look
from tests.cost.sent import bounds, statements_sent
from tests.cost.steady import LONG_NAME, SteadyEngine
from tests.engine import outcome

Figures = dict[str, float]
"""Name to number per unit."""
HOT = "share of step updates that touch no index"
BY_THE_CLOCK = "running 1,000 steps side by side, by the clock"
FAN = "running 1,000 steps side by side"
HOP = "a hop of a chain"
WIDTH, HOPS, PLANS, SUB_PLANS, AT_ONCE = 1000, 100, 10, 200, 20


@dataclass(slots=True)
class Cost:
    """What something cost."""

    figures: Figures = field(default_factory=dict)
    statements: Counter[str] = field(default_factory=Counter)
    """Text to number; of all units together."""


@contextmanager
def counted(units: int = 1) -> Iterator[Cost]:
    """Counts until the end of the block."""
    cost, before = Cost(), look()
    with statements_sent() as cost.statements:
        yield cost
    done = look().since(before)
    sums = {
        "statements": cost.statements.total(),
        "statements that bound transactions": bounds(cost.statements),
        "key checks": done.key_checks,
        "commands to Redis": done.commands,
        **dict(sorted(done.rows.items())),
    }
    cost.figures = {name: round(total / units, 3) for name, total in sums.items()}
    if updates := done.rows[f"updated {STEPS}"]:
        cost.figures[HOT] = round(done.hot / updates, 3)


def measure(name: str, engine: SteadyEngine) -> Cost:
    """What one unit of a scenario costs, when all that is looked up only once is known."""
    trigger(NoOp)
    engine.run_to_the_end()
    return SCENARIOS[name](engine)


# --- scenarios: workers run all of these to their end without the orchestrator, but families ------------------------


def planning(engine: SteadyEngine) -> Cost:
    """A plan of 1,000 steps is triggered."""
    with counted() as cost:
        trigger(Fan, WIDTH)
    return cost


def fan(engine: SteadyEngine) -> Cost:
    """A plan of 1,000 steps side by side runs and stops."""
    plan = trigger(Fan, WIDTH)
    with counted() as cost:
        engine.work()
    return _if_well(plan, cost)


def fan_by_the_clock(engine: SteadyEngine) -> Cost:
    """The same with batches as they come: whether they still gather."""
    plan = trigger(Fan, WIDTH)
    with counted() as cost:
        engine.work_by_the_clock()
    return _if_well(plan, cost)


def fan_of_long_name(engine: SteadyEngine) -> Cost:
    """The same by a worker whose name is as long as in a cluster: how many updates of steps find no room."""
    engine.is_called(LONG_NAME)
    return fan(engine)


def chain(engine: SteadyEngine) -> Cost:
    """A plan of 100 steps one after the other runs and stops."""
    plan = trigger(Chain, HOPS)
    with counted(HOPS) as cost:
        engine.work()
    return _if_well(plan, cost)


def one_step(engine: SteadyEngine) -> Cost:
    """A plan of one step is triggered, runs and stops."""
    with counted(PLANS) as cost:
        for _ in range(PLANS):
            plan = trigger(NoOp)
            engine.work()
    return _if_well(plan, cost)


def family(engine: SteadyEngine, limit: int | None = None) -> Cost:
    """A plan of 200 sub-plans is triggered, each of them plans, runs and finalizes, and it stops."""
    with counted(SUB_PLANS) as cost:
        plan = trigger(Family, count=SUB_PLANS, limit=limit)
        engine.run_to_the_end()
    return _if_well(plan, cost)


def limited_family(engine: SteadyEngine) -> Cost:
    """The same, but only 20 may move at once."""
    return family(engine, AT_ONCE)


SCENARIOS: dict[str, Callable[[SteadyEngine], Cost]] = {
    "planning 1,000 steps": planning,
    FAN: fan,
    BY_THE_CLOCK: fan_by_the_clock,
    "running 1,000 steps side by side, by a worker with a long name": fan_of_long_name,
    HOP: chain,
    "a plan of one step": one_step,
    "a sub-plan": family,
    "a sub-plan under a limit": limited_family,
}


def _if_well(plan: ExecutionPlan, cost: Cost) -> Cost:
    assert outcome(plan) == "stopped/success"
    return cost
