"""Resource locks are given back: when plans stop, when they do not need them any more, when somebody takes them."""

from __future__ import annotations

from typing import Any

import pytest

from dynflow_app import control
from dynflow_app.exceptions import WrongStateError
from dynflow_app.models import Envelope, ResourceLink, ResourceLock
from dynflow_app.orchestrator import advance
from dynflow_app.triggering import preview, trigger
from tests.engine import Engine, outcome
from tests.integration.test_locks import end, outcome_of, states, use
from tests.testapp import locking
from tests.testapp.journal import Journal

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_paused_plan_keeps_its_locks(engine: Engine, journal: Journal) -> None:
    journal.break_("run a")
    first, second = use("a", "h1", action=locking.UseHost), use("b", "h1", action=locking.UseHost)
    engine.run()
    assert (outcome(first), outcome(second)) == ("paused/error", "planned/pending")

    journal.repair("run a")
    control.resume(first)
    engine.run()
    assert (outcome(first), outcome(second)) == ("stopped/success", "stopped/success")


@pytest.mark.parametrize("verb", [control.cancel, control.abort, control.halt])
def test_ending_a_holder_lets_the_next_one_go(engine: Engine, journal: Journal, verb: Any) -> None:
    """Scenario h of foreman-tasks."""
    first, second = use("a", "h1"), use("b", "h1")
    engine.run()
    verb(first)
    engine.run()
    assert (outcome(first), outcome(second)) == ("stopped/cancelled", "running/pending")


@pytest.mark.parametrize("verb", [control.cancel, control.abort, control.halt])
def test_ending_a_waiting_plan_lets_those_behind_it_go(engine: Engine, journal: Journal, verb: Any) -> None:
    # given a reader, a writer behind it, and a reader behind that
    use("reader", shared=("h1",))
    writer = use("writer", "h1")
    behind = use("behind", shared=("h1",))
    engine.run()
    assert outcome(behind) == "planned/pending"
    # when the writer gives up
    verb(writer)
    engine.run()
    # then the two readers share
    assert outcome(behind) == "running/pending"
    assert (states(writer), outcome(writer)) == ({"'h1'": "unlocked"}, "stopped/cancelled")


def test_unlock_gives_a_resource_back_while_the_plan_goes_on(engine: Engine, journal: Journal) -> None:
    first, second = trigger(locking.UnlockEarly, "h1"), use("b", "h1")
    engine.run()
    assert journal.lines == ["run unlock", "begin b"]
    assert (outcome(first), outcome(second)) == ("running/pending", "running/pending")
    lock = ResourceLock.objects.get(plan=first)
    assert (lock.state, lock.reason) == ("unlocked", "unlocked by the plan")


def test_a_step_that_fails_has_unlocked_nothing(engine: Engine, journal: Journal) -> None:
    journal.break_("run unlock")
    first, second = trigger(locking.UnlockEarly, "h1"), use("b", "h1")
    engine.run()
    assert (outcome(first), outcome(second)) == ("paused/error", "planned/pending")
    journal.repair("run unlock")
    control.resume(first)
    engine.run()
    assert outcome(second) == "running/pending"


def test_unlocking_what_was_not_locked_does_nothing(engine: Engine, journal: Journal) -> None:
    plan = trigger(locking.Unlock, resource="h1")
    assert outcome_of(engine, plan) == "stopped/success"


def test_an_operator_unlocks_one_resource_or_all(engine: Engine, journal: Journal) -> None:
    holder = use("a", "h1", "h2")
    one, two = use("b", "h1"), use("c", "h2")
    engine.run()

    assert control.unlock(holder, by="ada", reason="h1 was replaced", resource="h1") == ["'h1'"]
    engine.run()
    assert (outcome(one), outcome(two)) == ("running/pending", "planned/pending")
    assert control.unlock(holder, reason="so was h2") == ["'h2'"]
    engine.run()
    assert outcome(two) == "running/pending"
    assert outcome(holder) == "running/pending", "it goes on"
    reasons = set(ResourceLock.objects.filter(plan=holder).values_list("reason", flat=True))
    assert reasons == {"unlocked by ada: h1 was replaced", "unlocked: so was h2"}
    assert [entry.verb for entry in holder.history.all()] == ["unlock"] * 2


def test_only_what_is_held_can_be_unlocked(engine: Engine, journal: Journal) -> None:
    holder, waiting = use("a", "h1"), use("b", "h1")
    engine.run()
    with pytest.raises(ValueError, match="give a reason"):
        control.unlock(holder, reason=" ")
    with pytest.raises(WrongStateError, match="holds no lock of h2"):
        control.unlock(holder, reason="x", resource="h2")
    with pytest.raises(WrongStateError, match="is planned and cannot be made to unlock"):
        control.unlock(waiting, reason="x")
    control.halt(holder)
    with pytest.raises(WrongStateError, match="is stopped"):
        control.unlock(holder, reason="x")


def test_freezing_a_waiting_plan_takes_it_out_of_the_line(engine: Engine, journal: Journal) -> None:
    # given a line of three, of which the second is frozen
    first, second, third = (use(name, "h1") for name in "abc")
    engine.run()
    control.freeze(second)
    engine.run()
    assert states(second) == {"'h1'": "requested"}

    # then the third is next, and the second comes after it once it is unfrozen
    end(first, engine)
    assert outcome(third) == "running/pending"
    control.unfreeze(second)
    engine.run()
    assert states(second) == {"'h1'": "waiting"}
    end(third, engine)
    end(second, engine)


def test_freezing_lets_those_behind_go(engine: Engine, journal: Journal) -> None:
    use("reader", shared=("h1",))
    writer, behind = use("writer", "h1"), use("behind", shared=("h1",))
    engine.run()
    control.freeze(writer)
    engine.run()
    assert outcome(behind) == "running/pending"


def test_a_plan_that_cannot_be_advanced_keeps_nothing(
    engine: Engine, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any) -> Any:
        raise RuntimeError("poison")

    first, second = use("a", "h1"), use("b", "h1")
    with monkeypatch.context() as patch:
        patch.setattr(advance, "release_frontier", broken)
        first_envelope = Envelope.objects.filter(plan=first)
        Envelope.objects.exclude(pk__in=first_envelope).update(due_at="2100-01-01T00:00Z")
        engine.decide()
    assert outcome(first) == "stopped/error"
    Envelope.objects.update(due_at="2000-01-01T00:00Z")
    engine.run()
    assert outcome(second) == "running/pending"


# --- undo, again ---------------------------------------------------------------------------------------------------


def test_a_rerun_and_a_revert_lock_what_the_plan_locked(engine: Engine, journal: Journal) -> None:
    # given a plan that is over, and its host in use
    done = use("a", "h1", action=locking.Undoable, links=("rack",))
    engine.run(done)
    user = use("b", "h1")
    engine.run()

    # then doing it again waits, and so does undoing it, which has its turn first
    again, undo = control.rerun(done), control.revert(done)
    engine.run()
    assert states(again) == states(undo) == {"'h1'": "waiting"}
    assert ResourceLink.objects.filter(plan=again).exists()
    end(user, engine)
    assert journal.lines[-2:] == ["revert a", "run a"]
    assert (outcome(again), outcome(undo)) == ("stopped/success", "stopped/success")


def test_a_preview_names_the_locks_and_takes_none() -> None:
    seen = preview(locking.UseHost, "a", "h1", shared=("h2",))
    assert seen.locks == {"'h1'": "exclusive", "'h2'": "shared"}
    assert not ResourceLock.objects.exists()
