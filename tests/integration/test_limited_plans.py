"""Plans with limited actions: what the limits promise holds from the trigger to the end."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import transaction
from django.db.models import F

from dynflow_app import BaseAction, control
from dynflow_app.exceptions import PlanningError
from dynflow_app.ledger.limits import admit, due_limits
from dynflow_app.models import ExecutionPlan, Limit, Step
from dynflow_app.planning.limit_keys import limit_key_of
from dynflow_app.triggering import trigger
from tests.engine import Engine, names_by_state, outcome, step_named
from tests.testapp import limited
from tests.testapp.journal import Journal


def several(action: type[BaseAction], names: str) -> ExecutionPlan:
    """A plan of such steps side by side."""
    return trigger(limited.Several, action, names)


@pytest.mark.django_db(transaction=True)
def test_thirty_steps_of_two_plans_run_three_at_a_time(engine: Engine, journal: Journal) -> None:
    plans = [trigger(limited.CallClouds, 15, "eu-1") for _ in range(2)]
    engine.run(side_by_side=True)

    assert [outcome(plan) for plan in plans] == ["stopped/success"] * 2
    at_once = [journal.lines[:n].count("start") - journal.lines[:n].count("end") for n in range(61)]
    assert (len(journal.lines), max(at_once)) == (60, 3)


@pytest.mark.django_db(transaction=True)
def test_a_failed_step_gives_its_slot_back(engine: Engine, journal: Journal) -> None:
    journal.break_("run a")
    plan = several(limited.OneAtATime, "abc")
    engine.run(plan)

    assert outcome(plan) == "paused/error"
    assert journal.lines == ["run a", "run b", "run c"]


@pytest.mark.django_db(transaction=True)
def test_a_suspended_step_keeps_its_slot(engine: Engine, journal: Journal) -> None:
    # given a step that waits for an answer, and others behind it
    first = several(limited.OneUntilAnswered, "a")
    engine.run(first)
    second = several(limited.OneAtATime, "bc")
    engine.run(second)
    assert journal.lines == ["run a"]

    # when it gets one
    control.send_event(step_named(first, "a"), "answer")
    engine.run(second)

    # then the others follow
    assert journal.lines == ["run a", "run a", "run b", "run c"]
    assert (outcome(first), outcome(second)) == ("stopped/success", "stopped/success")


@pytest.mark.django_db(transaction=True)
def test_a_halted_plan_gives_back_the_slots_of_what_waits_in_it(engine: Engine, journal: Journal) -> None:
    # given a step that waits for an answer, and others behind it
    first = several(limited.OneUntilAnswered, "a")
    engine.run(first)
    second = several(limited.OneAtATime, "bc")
    engine.run(second)
    assert journal.lines == ["run a"]

    # when its plan is halted, then the others follow, and so do later ones
    control.halt(first)
    engine.run(second)
    third = several(limited.OneAtATime, "d")
    engine.run(third)
    assert (outcome(second), outcome(third)) == ("stopped/success", "stopped/success")
    assert journal.lines == ["run a", "run b", "run c", "run d"]


@pytest.mark.django_db(transaction=True)
def test_a_rate_holds_steps_back_until_their_time(engine: Engine, journal: Journal) -> None:
    plan = several(limited.Hourly, "ab")
    engine.run(plan)
    assert journal.lines == ["run a"]
    assert names_by_state(plan) == {"success": ["a"], "ready": ["b"]}

    # when the hour has passed, and the orchestrator looks
    past = timedelta(hours=1)
    Limit.objects.update(next_start_at=F("next_start_at") - past, wakes_at=F("wakes_at") - past)
    with transaction.atomic():
        admit(due_limits(10))
    engine.run(plan)
    assert journal.lines == ["run a", "run b"]
    assert outcome(plan) == "stopped/success"


@pytest.mark.django_db(transaction=True)
def test_a_plan_with_an_impossible_key_fails_in_planning() -> None:
    with pytest.raises(PlanningError, match="known when the action is planned"):
        trigger(limited.LimitedByAnOutput)
    assert outcome(ExecutionPlan.objects.get()) == "stopped/error"
    assert not Step.objects.exists()
    assert not Limit.objects.exists()


def test_a_key_uses_the_input() -> None:
    assert limit_key_of(limited.CallCloud, "app.CallCloud", {"region": "eu-1"}) == "cloud eu-1"


def test_without_a_key_the_action_is_the_key_if_it_has_limits() -> None:
    assert limit_key_of(limited.Hourly, "app.Hourly", {}) == "app.Hourly"
    assert limit_key_of(limited.OneAtATime, "app.OneAtATime", {}) == "app.OneAtATime"
    assert limit_key_of(limited.Several, "app.Several", {}) is None


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"zone": "eu-1"}, r"app\.CallCloud cannot be made.*region.*this one has zone"),
        ({"region": {"$output": {"action": 1, "path": []}}}, "values that are known when the action is planned"),
        ({"region": "x" * 250}, "256 characters"),
    ],
)
def test_what_cannot_be_a_key_is_refused(given: dict[str, object], says: str) -> None:
    with pytest.raises(PlanningError, match=says):
        limit_key_of(limited.CallCloud, "app.CallCloud", given)


def test_a_key_gives_no_secret_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limited.CallCloud, "concurrency_key", "cloud {account[token]}")
    monkeypatch.setattr(limited.CallCloud, "sensitive", {"token"})
    with pytest.raises(PlanningError, match=r"uses 'account\[token\]', which is sensitive"):
        limit_key_of(limited.CallCloud, "app.CallCloud", {"account": {"token": "secret"}})


def test_a_limit_of_none_at_all_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limited.OneAtATime, "concurrency_limit", 0)
    with pytest.raises(PlanningError, match=r"app\.OneAtATime\.concurrency_limit is 0"):
        limit_key_of(limited.OneAtATime, "app.OneAtATime", {})
