"""Short steps that record themselves share a transaction, and yet none of them bears what another one does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from dynflow_app import control, triggering
from dynflow_app.models import ExecutionPlan, Step
from dynflow_app.reading.console import attempts_of
from dynflow_app.triggering import TriggerOptions
from dynflow_app.worker import shared_transactions
from tests.counting import statements_of_threads
from tests.engine import Engine, names_by_state, outcome
from tests.support import wait_until
from tests.testapp import sharing
from tests.testapp.actions import OnlyFinalize
from tests.testapp.journal import Journal
from tests.testapp.misbehaving import BlocksUntilGo

pytestmark = pytest.mark.django_db(transaction=True)

HUNDRED = 98
"""With the step before them they are as many as are claimed at once."""
Work = Callable[[int], None]
IN_WORKER = TriggerOptions(plan_in_worker=True)


@pytest.fixture(autouse=True)
def _unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who shares a transaction must not depend on how fast this machine is."""
    monkeypatch.setattr(shared_transactions, "TOGETHER", 60.0)
    monkeypatch.setattr(shared_transactions, "MOST_AT_ONCE", 1)


@pytest.fixture
def work_together(engine: Engine, journal: Journal) -> Work:
    """Lets one thread find so many steps waiting at once; then comes to rest."""
    triggering.trigger(BlocksUntilGo)  # before the plans of the test, so that it is claimed before them

    def work(number: int) -> None:
        engine.decide()
        with engine.working(threads=1, learnt=0.0001) as pump:
            try:
                wait_until(lambda: len(pump._hand) == 1 + number, describe=f"{number} steps wait for the thread")
            finally:
                journal.write("go")
        engine.run()

    return work


def runs(journal: Journal) -> Counter[str]:
    """How often each deed was done, be it rolled back or not."""
    return Counter(line for line in journal.lines if line != "go")


def ended_as(plan: ExecutionPlan) -> Counter[str]:
    """Of all attempts of a plan."""
    return Counter(each["ended_as"] for of_step in attempts_of(plan.steps.all()).values() for each in of_step)


# --- atomic steps --------------------------------------------------------------------------------------------------


def test_a_step_that_fails_takes_nothing_with_it_and_leaves_nothing(
    engine: Engine, journal: Journal, work_together: Work
) -> None:
    # given atomic steps that share a transaction, of which one fails after it has written
    journal.break_("run c")
    plan = triggering.trigger(sharing.Writes, "abcde")
    work_together(5)

    # then its writes are gone, and no other step noticed
    assert outcome(plan) == "paused/error"
    assert names_by_state(plan) == {"success": list("abde"), "error": ["c"]}
    assert sharing.written() == Counter("abde")
    assert runs(journal) == Counter(f"run {name}" for name in "abcde")

    # and it can run again
    journal.repair("run c")
    control.resume(plan)
    engine.run(plan)
    assert (outcome(plan), sharing.written()) == ("stopped/success", Counter("abcde"))


def test_the_first_of_a_transaction_may_fail_without_harm_to_others(
    engine: Engine, journal: Journal, work_together: Work
) -> None:
    """It has no savepoint of its own: there is nothing before it."""
    journal.break_("run a")
    plan = triggering.trigger(sharing.Writes, "abc")
    work_together(3)
    assert names_by_state(plan) == {"error": ["a"], "success": ["b", "c"]}
    assert sharing.written() == Counter("bc")


@pytest.mark.parametrize("names", ["Xab", "aXb", "abX"])
def test_if_the_commit_fails_only_its_cause_does(
    engine: Engine, journal: Journal, work_together: Work, names: str
) -> None:
    """What is checked at the commit fails all of a transaction, and nobody can tell because of which step."""
    # given steps that share a transaction; what one of them writes is refused at the commit
    plan = triggering.trigger(sharing.Writes, names, sharing.WriteToNobody)

    # when they run
    work_together(3)

    # then each was repeated alone, that one failed, and what the others did is there once
    assert outcome(plan) == "paused/error"
    assert names_by_state(plan) == {"success": ["a", "b"], "error": ["X"]}
    assert plan.steps.get(state="error").error["class"].endswith("IntegrityError")
    assert sharing.written() == Counter("ab")
    assert runs(journal) == Counter(f"run {name}" for name in names * 2)
    assert ended_as(plan) == Counter(succeeded=2, failed=1)
    assert set(plan.steps.values_list("attempt", flat=True)) == {1}


def test_a_step_of_another_kind_in_between_is_not_lost(engine: Engine, journal: Journal, work_together: Work) -> None:
    plan = triggering.trigger(sharing.Writes, "aXbYZc")
    work_together(6)
    assert outcome(plan) == "stopped/success"
    assert runs(journal) == Counter(f"run {name}" for name in "aXbYZc")
    assert sharing.written() == Counter("abc")


def test_more_than_fit_into_one_transaction_are_all_run_once(
    engine: Engine, journal: Journal, work_together: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_transactions, "MOST_TOGETHER", 3)
    plan = triggering.trigger(sharing.Writes, "abcdefgh")
    work_together(8)
    assert outcome(plan) == "stopped/success"
    assert sharing.written() == Counter("abcdefgh")
    assert ended_as(plan) == Counter(succeeded=8)


@pytest.mark.servers
def test_a_plan_that_is_halted_meanwhile_takes_only_its_own_step_back(engine: Engine, journal: Journal) -> None:
    """Nobody records a success of the dead; so what was written in it must not stay."""
    # given steps of three plans that share a transaction, and one of them runs
    plans = [triggering.trigger(sharing.Writes, name, sharing.WriteAfterGo) for name in "Xab"]
    engine.decide()
    with engine.working(threads=1, learnt=0.0001):
        wait_until(lambda: "waits" in journal.lines, describe="it runs")

        # when its plan is halted
        control.halt(plans[0])
        journal.write("go")
    engine.run()

    # then what it wrote is gone, and the others succeed
    assert [outcome(plan) for plan in plans] == ["stopped/error", "stopped/success", "stopped/success"]
    assert sharing.written() == Counter("ab")


def test_an_atomic_step_that_waits_in_between_keeps_what_it_wrote(engine: Engine, journal: Journal) -> None:
    plan = triggering.trigger(sharing.WriteInPortions)
    engine.run(plan)
    assert outcome(plan) == "stopped/success"
    assert sharing.written() == {f"look-{number}": 1 for number in range(1, 5)}


# --- finalize and plan phases --------------------------------------------------------------------------------------


def test_finalize_phases_of_several_steps_share_a_transaction(
    engine: Engine, journal: Journal, work_together: Work
) -> None:
    """Each phase is all or nothing by itself."""
    # given finalize phases of three steps each, one of which fails at its second
    journal.break_("finalize e")
    plans = [triggering.trigger(sharing.WritesAtTheEnd, names) for names in ("abc", "def", "ghi")]
    work_together(3)

    # then it left nothing, and the others are complete
    assert [outcome(plan) for plan in plans] == ["stopped/success", "paused/error", "stopped/success"]
    assert sharing.written() == Counter("abcghi")
    assert names_by_state(plans[1], "finalize") == {"pending": ["d", "f"], "error": ["e"]}
    assert runs(journal) == Counter(f"finalize {name}" for name in "abcdeghi")

    # and it can be repeated as a whole
    journal.repair("finalize e")
    control.resume(plans[1])
    engine.run(plans[1])
    assert (outcome(plans[1]), sharing.written()) == ("stopped/success", Counter("abcdefghi"))


def test_a_plan_phase_that_fails_takes_nothing_with_it(engine: Engine, journal: Journal, work_together: Work) -> None:
    journal.break_("plan b")
    plans = [triggering.trigger(sharing.PlansLater, name, options=IN_WORKER) for name in "abc"]
    work_together(3)
    assert [outcome(plan) for plan in plans] == ["stopped/success", "stopped/error", "stopped/success"]
    assert sharing.written() == Counter("ac")


def test_phases_and_atomic_steps_may_share_one_transaction(
    engine: Engine, journal: Journal, work_together: Work
) -> None:
    plans = [
        triggering.trigger(sharing.Writes, "a", sharing.WriteToNobody),
        triggering.trigger(sharing.WritesAtTheEnd, "bc"),
        triggering.trigger(sharing.Writes, "X", sharing.WriteToNobody),
        triggering.trigger(sharing.PlansLater, "d", options=IN_WORKER),
    ]
    work_together(4)
    found = [outcome(plan) for plan in plans]
    assert found == ["stopped/success", "stopped/success", "paused/error", "stopped/success"]
    assert sharing.written() == Counter("abcd")


# --- what it saves -------------------------------------------------------------------------------------------------


@pytest.mark.servers
@pytest.mark.parametrize(("action", "own"), [(OnlyFinalize, 0), (sharing.Write, 1)])
def test_a_hundred_short_steps_need_few_statements(
    engine: Engine, journal: Journal, work_together: Work, action: type, own: int
) -> None:
    """A savepoint, and what their own code writes; claims and records are shared."""
    # given a hundred plans that wait to be finalized, or to run an atomic step that writes a row
    triggering.trigger_many(action, [{"name": str(number)} for number in range(HUNDRED)])

    # when a worker runs them
    with statements_of_threads() as statements:
        work_together(HUNDRED)

    # then
    assert not Step.objects.exclude(state="success").exists()
    assert len(statements) < HUNDRED * (2 + own) + 50
