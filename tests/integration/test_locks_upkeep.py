"""What locks cost, what the sweep mends, and who is related to whom."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models import Max
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from dynflow_app import control
from dynflow_app.ledger import lines
from dynflow_app.models import Envelope, ExecutionPlan, ResourceLock, Step, Ticket
from dynflow_app.orchestrator import granting, inbox, sweep
from dynflow_app.triggering import TriggerOptions, trigger, trigger_many
from tests.engine import Engine, outcome
from tests.flows import statements
from tests.integration.test_locks import end, states, use
from tests.testapp import locking
from tests.testapp.actions import Record
from tests.testapp.journal import Journal

pytestmark = pytest.mark.django_db(transaction=True)


# --- costs ---------------------------------------------------------------------------------------------------------


def touching_locks(call: Any) -> list[str]:
    """The statements of `call` that name a table of locks or links."""
    with CaptureQueriesContext(connection) as queries:
        call()
    return [query["sql"] for query in queries if "dynflow_app_resource" in query["sql"]]


def test_plans_without_locks_pay_nothing(engine: Engine, journal: Journal) -> None:
    def whole_life() -> None:
        plan = trigger(Record, name="a")
        engine.run(plan)
        assert outcome(plan) == "stopped/success"
        cancelled = trigger(Record, name="b")
        control.cancel(cancelled)

    assert touching_locks(whole_life) == []
    assert not Envelope.objects.filter(kind="unlock").exists()


@pytest.mark.parametrize("number", [1, 40])
def test_the_number_of_statements_does_not_depend_on_the_number_of_plans(
    engine: Engine, journal: Journal, number: int
) -> None:
    class Hurried(locking.UseHost):
        start_timeout = timedelta(hours=1)

    # given what it costs to start plans without locks, which the orchestrator does for the sake of their timers
    trigger_many(Hurried, [{"name": str(n)} for n in range(number)])
    without = len(statements(lambda: inbox.run_once(engine.term)))
    assert Step.objects.filter(state="ready").count() == number
    ExecutionPlan.objects.update(state="stopped", result="success", ended_at=timezone.now(), active_steps=0)
    Step.objects.update(state="cancelled", alarm="", alarm_at=None)
    Ticket.objects.all().delete()

    # when as many start that want locks, then these cost nine more

    for n in range(number):
        use(str(n), f"h{n % 3}", "common", action=locking.UseHost)
    begun = statements(lambda: inbox.run_once(engine.term))
    assert len(begun) <= without + 9, begun
    assert ResourceLock.objects.filter(state="held").count() == 2


def waiting_line(length: int) -> list[ExecutionPlan]:
    """A holder and others in line behind it, written in bulk."""
    holder = trigger(locking.UseHostWhile, "holder", "h1")
    plans = trigger_many(locking.UseHostWhile, [{"name": str(n), "shared": ("h1",)} for n in range(length)])
    ResourceLock.objects.update(is_shared=False)
    return [holder, *plans]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_release_looks_at_the_head_of_a_line_of_ten_thousand(engine: Engine, journal: Journal) -> None:
    # given ten thousand plans in line
    holder, first, second, *_ = waiting_line(10_000)
    while inbox.run_once(engine.term):
        pass
    assert ResourceLock.objects.filter(state="waiting").count() == 10_000
    for plan, following in ((holder, first), (first, second)):
        # when the first one stops
        control.halt(plan)
        began = time.perf_counter()
        while inbox.run_once(engine.term):
            pass
        took = time.perf_counter() - began

        # then only the next one was looked at
        assert outcome(following) == "running/pending"
        assert not Envelope.objects.exists()
        assert took < 1.0
    ResourceLock.objects.all().delete()
    ExecutionPlan.objects.update(has_locks=False)


def test_a_reader_that_ends_asks_no_other_reader(engine: Engine, journal: Journal) -> None:
    # given readers that wait for something else, and one that ends
    reader = use("reader", shared=("h1",))
    use("busy", "h2")
    engine.run()
    for n in range(20):
        use(str(n), "h2", shared=("h1",))
    engine.run()
    control.halt(reader)
    assert lines.next_in_line({"text:h1": False}) == []
    engine.run()


# --- mending -------------------------------------------------------------------------------------------------------


def test_the_sweep_unlocks_what_a_stopped_plan_has(engine: Engine, journal: Journal) -> None:
    first, second = use("a", "h1"), use("b", "h1")
    engine.run()
    control.halt(first)
    Envelope.objects.all().delete()  # lost, whoever did that
    engine.run()
    assert outcome(second) == "planned/pending"

    assert sweep.run_once(engine.term).locks == 1
    engine.run()
    assert outcome(second) == "running/pending"
    assert sweep.run_once(engine.term).locks == 0


def test_the_sweep_calls_who_waits_for_nothing(engine: Engine, journal: Journal) -> None:
    first, second, third = use("a", "h1"), use("b", "h1"), use("c", "h1")
    engine.run()
    control.halt(first)
    engine.work()
    inbox.run_once(engine.term)  # unlocked, and the next one called
    Envelope.objects.all().delete()
    assert sweep.run_once(engine.term).locks == 1
    engine.run()
    assert (outcome(second), outcome(third)) == ("running/pending", "planned/pending")


def test_the_sweep_leaves_waiting_plans_alone(engine: Engine, journal: Journal) -> None:
    use("a", "h1"), use("b", "h1")
    engine.run()
    found = sweep.run_once(engine.term)
    assert (found.plans, found.locks) == (0, 0)
    assert not Envelope.objects.exists()


def test_without_live_locks_the_sweep_asks_one_question(engine: Engine) -> None:
    assert len(touching_locks(lambda: sweep.run_once(engine.term))) == 1


# --- planned later -------------------------------------------------------------------------------------------------


def test_a_plan_takes_its_place_when_its_time_has_come(engine: Engine, journal: Journal) -> None:
    # given a plan for tomorrow
    options = TriggerOptions(start_at=timezone.now() + timedelta(days=1))
    later = trigger(locking.UseHostWhile, "later", "h1", options=options)
    # then others use the host meanwhile
    now = use("now", "h1")
    engine.decide()
    engine.work()
    assert outcome(now) == "running/pending"
    engine.pass_time(86_400)
    engine.run()
    assert (outcome(later), states(later)) == ("planned/pending", {"'h1'": "waiting"})
    end(now, engine)
    assert outcome(later) == "running/pending"


def test_a_plan_that_waits_too_long_stops(engine: Engine, journal: Journal) -> None:
    use("now", "h1")
    engine.run()
    options = TriggerOptions(start_before=timezone.now() + timedelta(hours=1))
    late = trigger(locking.UseHost, "late", "h1", options=options)
    for _ in range(3):
        engine.decide()
        engine.work()
    assert outcome(late) == "planned/pending"
    engine.pass_time(3600)
    ExecutionPlan.objects.filter(pk=late.pk).update(start_before=timezone.now())
    engine.run()
    assert (outcome(late), late.error["class"]) == ("stopped/error", "TooLate")
    assert states(late) == {"'h1'": "unlocked"}


# --- sub-plans -----------------------------------------------------------------------------------------------------


def child(parent: ExecutionPlan, name: str, *resources: str, shared: tuple[str, ...] = ()) -> ExecutionPlan:
    """A sub-plan of the only step of `parent`."""
    plan = trigger(locking.UseHostWhile, name, *resources, shared=shared)
    known = ExecutionPlan.objects.filter(parent_step__plan=parent).aggregate(last=Max("position"))["last"]
    ExecutionPlan.objects.filter(pk=plan.pk).update(
        parent_step=parent.steps.get(phase="run"), position=0 if known is None else known + 1
    )
    return plan


def test_a_sub_plan_does_not_conflict_with_its_parent_and_passes_the_line(engine: Engine, journal: Journal) -> None:
    """Scenario a of foreman-tasks."""
    # given a holder, and one in line behind it
    parent, other = use("parent", "h1"), use("other", "h1")
    engine.run()
    # when it makes sub-plans that lock the same, and one of these makes another
    first, second = child(parent, "first", "h1"), child(parent, "second", "h1")
    engine.run()
    grandchild = child(first, "grandchild", "h1")
    engine.run()

    # then they do not wait for the line, only for each other
    assert [outcome(plan) for plan in (first, second, grandchild, other)] == [
        "running/pending", "planned/pending", "running/pending", "planned/pending"
    ]  # fmt: skip
    for plan in (grandchild, first):
        control.halt(plan)
        engine.run()
    assert [outcome(plan) for plan in (second, other)] == ["running/pending", "planned/pending"]
    control.halt(second)
    control.halt(parent)
    engine.run()
    assert outcome(other) == "running/pending"


def test_a_sub_plan_cannot_have_for_itself_what_its_parent_shares(engine: Engine, journal: Journal) -> None:
    parent = use("parent", shared=("h1",))
    engine.run()
    greedy, modest = child(parent, "greedy", "h1"), child(parent, "modest", shared=("h1",))
    engine.run()
    assert (outcome(greedy), outcome(modest)) == ("stopped/error", "running/pending")
    assert f"which plan {parent.pk}, whose sub-plan it is, holds shared" in greedy.error["message"]
    control.halt(parent)


def test_granting_is_for_plans_that_ask(engine: Engine) -> None:
    granted = granting.grant([])
    assert (granted.may_start, granted.waits, granted.refused) == (set(), set(), {})
