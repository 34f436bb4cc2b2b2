"""Plans that undo others, on the engine: reverts that wait, fail or are cancelled; and the plan that was undone."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dynflow_app import control, triggering
from dynflow_app.exceptions import WrongStateError
from dynflow_app.models import Event, ExecutionPlan
from tests.engine import Engine, names_by_state, outcome
from tests.testapp import undo
from tests.testapp.journal import Journal

pytestmark = pytest.mark.django_db(transaction=True)


def waiting_revert(engine: Engine, journal: Journal) -> ExecutionPlan:
    """A revert plan whose only step has suspended itself."""
    plan = engine.run(triggering.trigger(undo.UndoneLater))
    made = control.revert(plan)
    engine.run(made)
    assert journal.lines == ["run", "revert"]
    assert names_by_state(made, "revert") == {"suspended": ["UndoneLater"]}
    return made


def test_a_revert_that_waits_is_asked_before_it_is_cancelled(engine: Engine, journal: Journal) -> None:
    made = waiting_revert(engine, journal)
    control.cancel(made)
    engine.run(made)
    assert outcome(made) == "stopped/cancelled"
    assert journal.lines == ["run", "revert", "cancel"]


def test_a_revert_that_waits_too_long_hears_of_it(engine: Engine, journal: Journal) -> None:
    """It is not simply reverted again."""
    made = waiting_revert(engine, journal)
    engine.pass_time(59)
    engine.run(made)
    assert journal.lines == ["run", "revert"]
    engine.pass_time(2)
    engine.run(made)
    assert outcome(made) == "stopped/success"
    assert journal.lines == ["run", "revert", "on_timeout"]


def test_a_revert_that_waits_refuses_events(engine: Engine, journal: Journal) -> None:
    """For revert() takes none, so it would be called once more and know nothing of it."""
    made = waiting_revert(engine, journal)
    with pytest.raises(WrongStateError, match=r"a revert step, and only run\(\) can handle events"):
        control.send_event(made.steps.get(), "go")
    engine.run(made)
    assert journal.lines == ["run", "revert"]
    assert not Event.objects.exists()


def test_what_an_action_suggests_for_its_failures_is_not_said_about_its_revert(
    engine: Engine, journal: Journal
) -> None:
    """There is nothing to undo in an undoing; a person decides."""
    # given a plan that is undone by itself, and a revert that fails
    journal.break_("run c", "revert b")
    plan = engine.run(triggering.trigger(undo.DeedsOrRevert))
    made = plan.derived.get()
    engine.run(made)

    # then the revert plan pauses
    assert (outcome(plan), outcome(made)) == ("stopped/error", "paused/error")
    assert names_by_state(made, "revert") == {"error": ["b"], "pending": ["a"]}

    # and goes on when the cause is repaired
    journal.repair("revert b")
    control.resume(made)
    engine.run(made)
    assert outcome(made) == "stopped/success"
    assert journal.lines[-2:] == ["revert b", "revert a"]


@pytest.mark.parametrize("go_on", [control.resume, lambda plan: control.retry(plan.steps.get(state="error"))])
def test_what_was_undone_does_not_go_on(
    engine: Engine, journal: Journal, go_on: Callable[[ExecutionPlan], None]
) -> None:
    """Else it would build on what is not there any more, and could be undone a second time."""
    # given a paused plan that was reverted
    journal.break_("run d")
    plan = engine.run(triggering.trigger(undo.Deeds))
    undone = control.revert(plan)
    engine.run(undone)
    assert (outcome(plan), outcome(undone)) == ("paused/error", "stopped/success")
    journal.repair("run d")

    # when somebody wants it to go on, then that is refused, with the plan that undid it, and what to do
    with pytest.raises(WrongStateError, match=rf"reverted by plan {undone.pk}; .*rerun"):
        go_on(plan)
    engine.run(plan)
    assert outcome(plan) == "paused/error"
    assert journal.lines.count("run d") == 1

    # and that works
    again = control.rerun(plan)
    engine.run(again)
    assert outcome(again) == "stopped/success"
    assert journal.lines[-1] == "run d"
