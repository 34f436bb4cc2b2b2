"""Random plans with random failures, run by two processes at once, repaired or given up by a random operator."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from dynflow_app import control, triggering
from dynflow_app.models import ExecutionPlan
from tests.engine import Engine, names_by_state, outcome
from tests.invariants import violations
from tests.testapp import actions
from tests.testapp.journal import VARIABLE, Journal
from tests.unit.engine.test_flow_properties import PROGRAMS, Block, Place, referred, required_order


@pytest.mark.django_db(transaction=True)
@hypothesis_settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(program=PROGRAMS, seed=st.integers(0, 2**32))
def test_any_plan_comes_to_its_end(
    engine: Engine, tmp_path_factory: pytest.TempPathFactory, program: Block, seed: int
) -> None:
    """Scenario 15: in order, every step once; what was given up takes exactly its consumers along."""
    with pytest.MonkeyPatch.context() as environment:
        folder = tmp_path_factory.mktemp("random")
        environment.setenv(VARIABLE, str(folder))
        check(engine, folder, program, random.Random(seed))


def check(engine: Engine, folder: Path, program: Block, chance: random.Random) -> None:
    """One example."""
    # given a plan some of whose steps will fail
    journal = Journal(folder)
    required = required_order(program)
    for number in required:
        if chance.random() < 0.25:
            journal.break_(f"run {number}")
        if chance.random() < 0.1:
            journal.break_(f"finalize {number}")
    plan = triggering.trigger(actions.RandomPlan, program=as_lists(program))

    # when it runs, and an operator repairs or skips what failed, until it stops
    engine.run(plan, side_by_side=True)
    given_up: set[int] = set()
    while plan.state == "paused":
        given_up |= rescue(plan, journal, chance)
        assert violations() == []
        control.resume(plan)
        engine.run(plan, side_by_side=True)

    # then what consumes the output of what was given up is skipped, the rest has run, once
    skipped = consumers(program, given_up)
    expected = {
        "success": [str(number) for number in sorted(required) if number not in skipped],
        "skipped": [str(number) for number in sorted(skipped)],
    }
    assert names_by_state(plan) == {state: names for state, names in expected.items() if names}
    skipped_finalizers = plan.steps.filter(phase="finalize", state="skipped").exists()
    assert outcome(plan) == ("stopped/warning" if skipped_finalizers else "stopped/success")
    lines = journal.lines
    for number in required:
        step = plan.steps.get(phase="run", action__input__name=str(number))
        succeeded = step.is_first_success + step.attempts.filter(ended_as="succeeded").count()
        assert succeeded == (number not in skipped)

    # and each started only after everything before it had ended, also where something in between was skipped
    position = {line: index for index, line in enumerate(lines)}  # of the last try
    first = {line: index for index, line in reversed(list(enumerate(lines)))}
    for number in required.keys() - skipped:
        for before in required[number] - skipped:
            assert position[f"run {before}"] < first[f"start {number}"]


def rescue(plan: ExecutionPlan, journal: Journal, chance: random.Random) -> set[int]:
    """Repair some of what failed, and give up the rest; returns the numbers of the run steps given up."""
    given_up = set()
    for step in plan.steps.filter(state="error").select_related("action"):
        step.refresh_from_db()
        name = step.action.input["name"]
        if step.state == "error" and chance.random() < 0.5:
            control.skip(step)
            given_up |= {int(name)} if step.phase == "run" else set()
        elif step.state == "error":
            journal.repair(f"{step.phase} {name}")
    return given_up


def as_lists(block: Block) -> list[Any]:
    """The program as RandomPlan takes it."""
    numbers = iter(range(1, 10_000))
    return [_as_list(item, numbers) for item in block.items]


def _as_list(item: Block | Place, numbers: Iterator[int]) -> list[Any]:
    if isinstance(item, Place):
        return ["step", sorted(referred(item, next(numbers)))]
    return [item.kind.value, [_as_list(each, numbers) for each in item.items]]


def consumers(program: Block, numbers: set[int]) -> set[int]:
    """These steps and all that need their output, directly or not."""
    found = set(numbers)
    for number, refers in enumerate(_references(program), start=1):
        if found & refers:
            found.add(number)
    return found


def _references(program: Block) -> Iterator[set[int]]:
    numbers = iter(range(1, 10_000))

    def walk(item: Block | Place) -> Iterator[set[int]]:
        if isinstance(item, Place):
            yield referred(item, next(numbers))
        else:
            for each in item.items:
                yield from walk(each)

    return walk(program)
