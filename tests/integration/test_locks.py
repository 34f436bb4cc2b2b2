"""Resource locks: who gets what, in which order, and when it is given back."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Group

from dynflow_app import BaseAction, OnConflict, control
from dynflow_app.exceptions import PlanningError
from dynflow_app.models import ExecutionPlan, ResourceLink, ResourceLock
from dynflow_app.triggering import trigger
from tests.engine import Engine, outcome, step_named
from tests.testapp import locking
from tests.testapp.journal import Journal

pytestmark = pytest.mark.django_db(transaction=True)


def states(plan: ExecutionPlan) -> dict[str, str]:
    """Name of each resource the plan asked for, to the state of its lock."""
    return {lock.name: lock.state for lock in ResourceLock.objects.filter(plan=plan)}


def use(name: str, *resources: Any, action: type[BaseAction] = locking.UseHostWhile, **more: Any) -> ExecutionPlan:
    """A plan that keeps what it locks until it is told to end."""
    return trigger(action, name, *resources, **more)


def end(plan: ExecutionPlan, engine: Engine) -> None:
    """Let a plan of `use` end."""
    control.send_event(plan.steps.get(phase="run"), "end")
    engine.run(plan)
    assert plan.state == "stopped"


# --- exclusive and shared ------------------------------------------------------------------------------------------


def test_the_second_plan_waits_until_the_first_has_stopped(engine: Engine, journal: Journal) -> None:
    """Scenario 52."""
    # given two plans that want the same host
    host = Group.objects.create(name="h1")
    first, second = use("a", host), use("b", host)
    engine.run()

    # then one has it and the other is in line
    assert journal.lines == ["begin a"]
    assert (outcome(first), outcome(second)) == ("running/pending", "planned/pending")
    assert (states(first), states(second)) == ({f"auth.group {host.pk}": "held"}, {f"auth.group {host.pk}": "waiting"})
    assert second.is_waiting

    # when the first one ends
    end(first, engine)

    # then the other one has its turn
    assert journal.lines == ["begin a", "end a", "begin b"]
    end(second, engine)
    assert not second.is_waiting
    assert set(ResourceLock.objects.values_list("state", "reason")) == {("unlocked", "the plan stopped")}


def test_other_hosts_and_texts_do_not_conflict(engine: Engine, journal: Journal) -> None:
    one, two = Group.objects.create(name="h1"), Group.objects.create(name="h2")
    for name, resource in enumerate([one, two, "h1", str(one.pk), f"auth.group:{one.pk}"]):
        use(str(name), resource)
    engine.run()
    assert len(journal.lines) == 5


def test_ten_readers_share_and_a_writer_is_not_starved(engine: Engine, journal: Journal) -> None:
    """Scenario 52."""
    # given ten readers, a writer behind them, and ten more readers
    early = [use(f"early {n}", shared=("repo",)) for n in range(10)]
    writer = use("writer", "repo")
    late = [use(f"late {n}", shared=("repo",)) for n in range(10)]
    engine.run()

    # then the first ten share; those after the writer do not pass it
    assert sorted(journal.lines) == [f"begin early {n}" for n in range(10)]

    # when all but one reader have ended, nothing changes; when the last one has, it is the writer's turn
    for plan in early[1:]:
        end(plan, engine)
    assert "begin writer" not in journal.lines
    end(early[0], engine)
    assert journal.lines[-1] == "begin writer"

    # and after it all the others share again
    end(writer, engine)
    assert sorted(journal.lines[-10:]) == [f"begin late {n}" for n in range(10)]
    for plan in late:
        end(plan, engine)


def test_all_locks_of_a_plan_are_taken_at_once(engine: Engine, journal: Journal) -> None:
    # given two plans that want two hosts in opposite order, and a third one of which one is taken
    taken = use("a", "h1", "h2")
    both = use("b", "h2", "h3")
    engine.run()
    assert states(both) == {"'h2'": "waiting", "'h3'": "waiting"}

    # then what it waits for with it is not taken from it by a later one
    later = use("c", "h3")
    engine.run()
    assert states(later) == {"'h3'": "waiting"}
    for plan in (taken, both, later):
        end(plan, engine)
    assert journal.lines == ["begin a", "end a", "begin b", "end b", "begin c", "end c"]


def test_crossing_plans_do_not_deadlock(engine: Engine, journal: Journal) -> None:
    hold = use("hold", "h1", "h2")
    plans = [use("a", "h1", "h2"), use("b", "h2", "h1"), use("c", "h1", "h2")]
    engine.run()
    for plan in [hold, *plans]:
        end(plan, engine)
    assert [line for line in journal.lines if "begin" in line] == ["begin hold", "begin a", "begin b", "begin c"]


def test_locking_twice_in_one_plan_is_locking_once_and_exclusive_wins(engine: Engine, journal: Journal) -> None:
    """Scenario b of foreman-tasks."""
    host = Group.objects.create(name="h1")
    plan = trigger(locking.LockTwice, host)
    (lock,) = ResourceLock.objects.filter(plan=plan)
    assert not lock.is_shared
    assert outcome_of(engine, plan) == "stopped/success"


def test_a_link_excludes_nobody(engine: Engine, journal: Journal) -> None:
    host = Group.objects.create(name="h1")
    plans = [use("a", host), use("b", links=(host, host))]
    engine.run()
    assert sorted(journal.lines) == ["begin a", "begin b"]
    assert [link.plan for link in ResourceLink.objects.all()] == [plans[1]]
    assert not ResourceLock.objects.filter(plan=plans[1]).exists()


def outcome_of(engine: Engine, plan: ExecutionPlan) -> str:
    """After it has run."""
    engine.run(plan)
    return outcome(plan)


# --- on_conflict ---------------------------------------------------------------------------------------------------


def test_a_plan_that_does_not_want_to_wait_fails_and_names_the_holder(engine: Engine, journal: Journal) -> None:
    """Scenario a of foreman-tasks."""
    first = use("a", "h1")
    engine.run()
    second = use("b", "h1", action=locking.UseHostOrFail)
    assert outcome_of(engine, second) == "stopped/error"
    assert second.error["class"] == "ResourceBusy"
    assert second.error["message"] == f"Plan {first.pk} holds 'h1'; trigger it again when that has stopped."
    assert (journal.lines, states(second)) == (["begin a"], {"'h1'": "unlocked"})


def test_a_plan_that_is_not_that_important_is_skipped(engine: Engine, journal: Journal) -> None:
    first = use("a", "h1")
    engine.run()
    second = use("b", "h1", action=locking.UseHostOrSkip)
    assert outcome_of(engine, second) == "stopped/cancelled"
    assert str(first.pk) in second.error["message"]
    assert step_named(second, "b").state == "cancelled"


@pytest.mark.parametrize("action", [locking.UseHostOrFail, locking.UseHostOrSkip])
def test_without_a_conflict_they_simply_run(engine: Engine, journal: Journal, action: type[BaseAction]) -> None:
    assert outcome_of(engine, use("a", "h1", action=action)) == "stopped/success"


def test_who_does_not_wait_does_not_pass_those_who_do(engine: Engine, journal: Journal) -> None:
    # given a reader, and a writer behind it
    use("reader", shared=("h1",))
    writer = use("writer", "h1")
    engine.run()
    # then another reader that does not wait is refused: the writer was there first
    other = use("other", shared=("h1",), action=locking.UseHostOrFail)
    assert outcome_of(engine, other) == "stopped/error"
    assert f"Plan {writer.pk} waits for" in other.error["message"] or "holds" in other.error["message"]


def test_the_stricter_of_two_actions_counts() -> None:
    class Both(BaseAction):
        on_conflict = OnConflict.FAIL

        def plan(self) -> None:
            self.lock("h1")
            self.plan_action(locking.UseHost, "inner", "h1")

    plan = trigger(Both)
    assert ResourceLock.objects.get(plan=plan).on_conflict == "fail"


# --- what is no resource -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("resource", "says"),
    [
        (Group(name="h1"), "This Group was not saved yet"),
        ("", "names no resource"),
        (" ", "names no resource"),
        ("a\0b", "no NUL"),
        ("x" * 251, "has 256 characters; at most 255"),
        (Group, "a model instance or text"),
        (7, "a model instance or text, not 7"),
        (None, "a model instance or text"),
    ],
)
@pytest.mark.parametrize("how", ["lock", "link"])
def test_what_cannot_be_locked_is_refused(how: str, resource: Any, says: str) -> None:
    with pytest.raises(PlanningError, match=says):
        trigger(locking.UseHost, "a", **({"links": (resource,)} if how == "link" else {"shared": (resource,)}))
    assert outcome(ExecutionPlan.objects.get()) == "stopped/error"
    assert not ResourceLock.objects.exists()


def test_the_longest_text_is_kept(engine: Engine, journal: Journal) -> None:
    assert outcome_of(engine, use("a", "x" * 250, action=locking.UseHost)) == "stopped/success"


def test_verbs_belong_into_their_phases() -> None:
    class LockInRun(BaseAction):
        def run(self) -> None:
            self.lock("h1")

    with pytest.raises(PlanningError, match=r"unlock exists only in run"):
        trigger(type("Early", (BaseAction,), {"plan": lambda self: self.unlock("h1")}))
