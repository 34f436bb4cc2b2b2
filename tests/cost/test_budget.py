"""The cost of the engine, counted and never timed, fits the budget that is committed beside this file."""

from __future__ import annotations

import re
import warnings

import psycopg
import pytest
from django.db import connection, transaction

from dynflow_app.ledger import recording, turning
from dynflow_app.models import Limit
from project.bench.actions import NoOp
from tests.cost import budget
from tests.cost.scenarios import HOP, SCENARIOS, counted, measure
from tests.cost.steady import steady_engine

pytestmark = [
    pytest.mark.servers,
    pytest.mark.django_db(transaction=True),
    pytest.mark.filterwarnings("default::tests.cost.budget.GenerousBudgetWarning"),
]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_engine_costs_no_more_than_its_budget(scenario: str) -> None:
    # given an engine whose batches are the same each time
    with steady_engine() as engine:
        # when it does something
        cost = measure(scenario, engine)

    # then that costs what it may cost; if it has become cheaper, somebody should know
    allowed = budget.read()[scenario]
    if hint := budget.hint(scenario, allowed, cost):
        warnings.warn(hint, budget.GenerousBudgetWarning, stacklevel=1)
    assert not (refusal := budget.refusal(scenario, allowed, cost)), refusal


# --- the guard itself --------------------------------------------------------------------------------------------


def test_a_statement_more_for_each_step_is_found_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    # given an engine that asks the database something before each step, in the step's thread
    monkeypatch.setattr(NoOp, "run", lambda _: Limit.objects.exists())

    # when it runs a plan
    with steady_engine() as engine:
        cost = measure(HOP, engine)

    # then the budget refuses that, and says what was sent
    refusal = budget.refusal(HOP, budget.read()[HOP], cost)
    assert f"statements: {cost.figures['statements']:g} instead of 1.01" in refusal
    assert re.search('100 x SELECT .* FROM "dynflow_app_limit"', refusal)


@pytest.mark.invented
def test_a_row_more_for_each_step_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    # given an engine that writes of each first success what it leaves out elsewhere
    monkeypatch.setattr(turning, "can_turn", lambda _: False)  # the general way
    monkeypatch.setattr(recording, "_says_nothing_new", lambda _: False)

    # when it runs a plan
    with steady_engine() as engine:
        cost = measure(HOP, engine)

    # then the budget refuses the rows and the statements
    refusal = budget.refusal(HOP, budget.read()[HOP], cost)
    assert "inserted attempt: 1 instead of 0" in refusal
    assert "statements that bound transactions: 2" in refusal


def test_every_way_to_send_a_statement_is_counted() -> None:
    # when Django and psycopg send something, in and outside of transactions
    with steady_engine(), counted() as cost:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        with transaction.atomic(), transaction.atomic():
            psycopg.Cursor(connection.connection).execute("SELECT 2")
        with psycopg.Cursor(connection.connection).copy("COPY (SELECT 3) TO STDOUT") as copy:
            list(copy)

    # then each is there once, and those around them too
    assert cost.statements == {
        "SELECT 1": 1,
        "BEGIN": 1,
        "SAVEPOINT": 1,
        "SELECT 2": 1,
        "RELEASE": 1,
        "COMMIT": 1,
        "COPY (SELECT 3) TO STDOUT": 1,
    }
    assert cost.figures["statements that bound transactions"] == 4
