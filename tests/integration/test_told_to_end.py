"""Code that is told to end while it runs, by a person or by the clock, and answers in its own way."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dynflow_app import control, triggering
from dynflow_app.models import ExecutionPlan
from tests.engine import Engine, names_by_state, outcome
from tests.support import wait_until
from tests.testapp import told
from tests.testapp.journal import Journal

pytestmark = pytest.mark.django_db(transaction=True)

Verb = Callable[[ExecutionPlan], None]


def end_while_it_runs(engine: Engine, journal: Journal, action: type, verb: Verb) -> ExecutionPlan:
    """A plan of this action, which got that while it ran, and has come to rest."""
    plan = triggering.trigger(action)
    engine.decide()
    with engine.working():
        wait_until(lambda: "run" in journal.lines, describe="it runs")
        verb(plan)
    engine.run(plan)
    return plan


@pytest.mark.parametrize(
    ("action", "verb"),
    [
        (told.ClosedUnderIt, control.cancel),
        (told.ClosedOrFail, control.cancel),
        (told.ClosedOrRevert, control.cancel),
        (told.FailsWhenAborted, control.abort),
    ],
)
def test_whoever_was_told_to_end_and_fails_is_cancelled(
    engine: Engine, journal: Journal, action: type, verb: Verb
) -> None:
    """Whatever its action suggests for failures; what it raised is kept."""
    plan = end_while_it_runs(engine, journal, action, verb)
    assert outcome(plan) == "stopped/cancelled"
    step = plan.steps.get()
    assert (step.state, step.error["message"]) == ("cancelled", "closed under me")
    assert not plan.derived.exists()


def test_who_takes_no_notice_of_a_cancel_has_no_more_time_for_it(engine: Engine, journal: Journal) -> None:
    """When its time is over it is made to end, as if it had not been asked before."""
    plan = end_while_it_runs(engine, journal, told.DeafAndSlow, control.cancel)
    assert outcome(plan) == "stopped/cancelled"
    assert "exception was raised in its thread" in plan.steps.get().error["message"]


@pytest.mark.servers
def test_a_cancel_that_a_finalize_phase_did_not_notice_is_over_with_it(engine: Engine, journal: Journal) -> None:
    """On SQLite nobody can cancel meanwhile: the phase is the one writer."""
    # given a finalize phase that fails after its plan was cancelled
    journal.break_("finalize b")
    plan = triggering.trigger(told.TwoFinalizeAfterGo)
    engine.decide()
    with engine.working():
        wait_until(lambda: "begin a" in journal.lines, describe="it finalizes")
        control.cancel(plan)
        journal.write("go")
    engine.run(plan)
    assert outcome(plan) == "paused/error"
    assert names_by_state(plan, "finalize") == {"pending": ["a"], "error": ["b"]}

    # then nothing of that wish is left
    assert set(plan.steps.values_list("stop_request", flat=True)) == {""}

    # and a person may resume it
    journal.repair("finalize b")
    control.resume(plan)
    assert outcome(engine.run(plan)) == "stopped/success"
