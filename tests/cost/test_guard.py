"""What the budget refuses, what it only mentions, and what it says; without counting anything."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.cost import budget
from tests.cost.rows import Done
from tests.cost.scenarios import BY_THE_CLOCK, FAN, HOP, HOT, SCENARIOS, Cost
from tests.cost.sent import bounds, shortened

ALLOWED = {"statements": 100.0, "updated step": 2000.0, HOT: 0.92}


def cost(**changes: float) -> Cost:
    """As allowed, but for the figures that are given; underscores stand for spaces."""
    changed = {name.replace("_", " "): figure for name, figure in changes.items()}
    return Cost(ALLOWED | changed, Counter({"SELECT 1": 90, "COMMIT": 20}))


def test_every_scenario_has_a_budget() -> None:
    assert list(budget.read()) == list(SCENARIOS)


def test_what_costs_as_much_as_it_may_is_fine() -> None:
    assert budget.refusal(FAN, ALLOWED, cost()) == ""
    assert budget.hint(FAN, ALLOWED, cost()) == ""


@pytest.mark.parametrize(("name", "most"), [("statements", 110.0), ("updated step", 2040.0)])
def test_a_little_more_is_fine_and_a_little_more_than_that_is_not(name: str, most: float) -> None:
    assert budget.refusal(FAN, ALLOWED, Cost({**ALLOWED, name: most})) == ""
    assert f"{name}: {most + 1:g} instead of" in budget.refusal(FAN, ALLOWED, Cost({**ALLOWED, name: most + 1}))


def test_what_has_no_budget_may_cost_nothing() -> None:
    assert "inserted attempt: 0.01 instead of 0" in budget.refusal(FAN, ALLOWED, cost(inserted_attempt=0.01))


def test_a_refusal_says_what_was_sent_and_what_to_do() -> None:
    assert budget.refusal(FAN, ALLOWED, cost(statements=1100)).splitlines() == [
        f"{FAN} costs more than its budget:",
        "  statements: 1100 instead of 100",
        "Sent most often:",
        "  90 x SELECT 1",
        "  20 x COMMIT",
        f"If that is as it should be: {budget.REWRITE}",
    ]


def test_steps_that_find_less_room_are_refused() -> None:
    assert budget.refusal(HOP, ALLOWED, Cost({**ALLOWED, HOT: 0.895})) == ""
    assert HOT in budget.refusal(HOP, ALLOWED, Cost({**ALLOWED, HOT: 0.88}))
    assert HOT in budget.refusal(FAN, ALLOWED, Cost({**ALLOWED, HOT: 0.89}))
    assert HOT in budget.refusal(FAN, ALLOWED, Cost({**ALLOWED, HOT: 0.0}))
    assert HOT in budget.hint(FAN, ALLOWED, Cost({**ALLOWED, HOT: 1.0}))
    assert budget.refusal(BY_THE_CLOCK, ALLOWED, Cost({**ALLOWED, HOT: 0.73})) == ""
    assert HOT in budget.refusal(BY_THE_CLOCK, ALLOWED, Cost({**ALLOWED, HOT: 0.71}))


def test_what_has_become_cheaper_is_mentioned_so_that_the_budget_follows() -> None:
    cheaper = cost(statements=60)

    assert budget.refusal(FAN, ALLOWED, cheaper) == ""
    assert budget.hint(FAN, ALLOWED, cheaper).splitlines() == [
        f"{FAN} costs less than its budget:",
        "  statements: 60 instead of 100",
        f"Tighten it: {budget.REWRITE}",
    ]


def test_a_budget_of_more_than_twice_what_is_needed_is_refused() -> None:
    assert "statements: 49 instead of 100" in budget.refusal(FAN, ALLOWED, cost(statements=49))
    gone = Cost({"updated step": 2000.0, HOT: 0.92})
    assert "statements: 0 instead of 100" in budget.refusal(FAN, ALLOWED, gone)


def test_what_runs_by_the_clock_may_take_more_batches() -> None:
    assert budget.refusal(BY_THE_CLOCK, ALLOWED, cost(statements=199)) == ""
    assert budget.refusal(BY_THE_CLOCK, ALLOWED, cost(statements=201)) != ""
    assert budget.refusal(BY_THE_CLOCK, ALLOWED, cost(statements=51)) == ""


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        ('SAVEPOINT "s139_x7"', "SAVEPOINT"),
        (b"COMMIT", "COMMIT"),
        ('ROLLBACK TO SAVEPOINT "s139_x7"', "ROLLBACK TO"),
        ("SELECT id\n    FROM step WHERE id IN (%s, %s, %s)", "SELECT id FROM step WHERE id IN (...)"),
        ("INSERT INTO step VALUES (%s, %s), (%s, %s)", "INSERT INTO step VALUES (...)"),
        ("SELECT dynflow_turn_1(%s::uuid[], %s::int)", "SELECT dynflow_turn_1(...)"),
        ("UPDATE step SET state = %s", "UPDATE step SET state = %s"),
    ],
)
def test_the_same_statement_about_more_rows_counts_as_the_same(statement: object, text: str) -> None:
    assert shortened(statement) == text


def test_what_bounds_transactions_is_told_from_the_rest() -> None:
    assert bounds(Counter({"BEGIN": 2, "COMMIT": 2, "SAVEPOINT": 3, "ROLLBACK TO": 1, "SELECT 1": 50})) == 8


def test_sums_are_those_of_the_time_between() -> None:
    before = Done(Counter({"updated step": 5, "inserted plan": 2}), hot=4, key_checks=1, commands=10)
    after = Done(Counter({"updated step": 9, "inserted plan": 2}), hot=7, key_checks=3, commands=11)

    assert after.since(before) == Done(Counter({"updated step": 4}), hot=3, key_checks=2, commands=1)
