"""Inputs and outputs come back from the database as they went in, on either database."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Group
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings

from dynflow_app import triggering
from dynflow_app.exceptions import NotSerializableError
from dynflow_app.models import ExecutionPlan
from tests.engine import Engine, outcome
from tests.testapp import actions
from tests.testapp.journal import Journal
from tests.unit.test_serialization import VALUES, same

pytestmark = pytest.mark.django_db(transaction=True)

VALUES_WITH_A_STORY = [
    None, True, False, 0, -0.0, 1.0, 0.1, -1e15, 9.999999999999998e15, 5e-324, 1e-300,
    2**53 + 1, 2**63, -(2**64), 10**400, "", " ", "\x01\x7f", "\u2028", "\U0001f600", "\\u0000", "'\";--%s",
    "$output", [], {}, [[]], [{}], {"": {"": ""}}, {"a": None}, [1, 1.0, True, None, "1"],
    {"b": 1, "a": 2, "aa": 3}, "x" * 100_000,
]  # fmt: skip


def test_values_that_databases_like_to_change(engine: Engine) -> None:
    """Scenario 3: what one action produced is what the next one got, with types and order of keys aside."""
    # given echoes of echoes
    plan = triggering.trigger(EchoTwice, values=VALUES_WITH_A_STORY)

    # when they have run
    engine.run(plan)
    assert outcome(plan) == "stopped/success"

    # then both have the value
    changed = [
        (value, action.output["value"])
        for action, value in zip(
            plan.actions.exclude(number=1), [v for v in VALUES_WITH_A_STORY for _ in range(2)], strict=True
        )
        if not (same(action.output["value"], value) and same(action.input["value"], value))
    ]
    assert changed == []


@hypothesis_settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=VALUES)
def test_any_value_that_is_accepted(engine: Engine, value: Any) -> None:
    """Scenario 3: as above, with values that nobody thought of."""
    plan = triggering.trigger(EchoTwice, values=[value])

    engine.run(plan)

    assert outcome(plan) == "stopped/success"
    for action in plan.actions.exclude(number=1):
        assert same(action.input["value"], value)
        assert same(action.output["value"], value)


@pytest.mark.parametrize("what", sorted(actions.UNSTORABLE))
def test_an_output_that_cannot_be_stored_fails_the_step(engine: Engine, what: str) -> None:
    """The step is in error with the path; whatever else ended with it is kept."""
    plan = triggering.trigger(actions.Produce, what=what)
    other = triggering.trigger(actions.Echo, value=what)

    engine.run(plan)

    assert outcome(plan) == "paused/error"
    step = plan.steps.get()
    assert step.error["class"].endswith("NotSerializableError")
    assert "Produce.output.value" in step.error["message"]
    assert outcome(other) == "stopped/success"


def test_an_input_that_cannot_be_stored_is_refused_when_planned(engine: Engine, journal: Journal) -> None:
    """The caller hears the path; the plan is there to look at."""
    with pytest.raises(NotSerializableError, match=r"Record\.input\.hosts\[1\]"):
        triggering.trigger(actions.Record, name="x", hosts=[1, (2, 3)])

    assert outcome(ExecutionPlan.objects.get()) == "stopped/error"


def test_finalize_may_empty_the_output(engine: Engine) -> None:
    """An output that was there and is gone is stored as gone."""
    plan = triggering.trigger(actions.Forget)

    engine.run(plan)

    assert outcome(plan) == "stopped/success"
    assert plan.actions.get().output == {}


def test_a_forgotten_transaction_harms_no_other_step(engine: Engine) -> None:
    """The next step on the same thread gets a connection that works and commits."""
    plan = triggering.trigger(actions.WriteAfterOpenTransactions)

    engine.decide()
    engine.work(threads=1)
    engine.run(plan)

    assert outcome(plan) == "stopped/success"
    assert Group.objects.filter(name="careful").exists()


def test_an_error_that_cannot_be_stored_is_stored_all_the_same(engine: Engine, journal: Journal) -> None:
    """Messages with NUL and half characters, as subprocesses and sockets produce them."""
    plan = triggering.trigger(actions.FailWith, codes=[0, 0xD800, 0x1F600, 97])

    engine.run(plan)

    assert outcome(plan) == "paused/error"
    message = plan.steps.get().error["message"]
    assert message.endswith("\U0001f600a")
    assert "\0" not in message


class EchoTwice(actions.BaseAction):
    """For each value one action that echoes it, and one that echoes the echo."""

    def plan(self, values: list[Any]) -> None:
        for value in values:
            first = self.plan_action(actions.Echo, value=value)
            self.plan_action(actions.Echo, value=first.output["value"])
