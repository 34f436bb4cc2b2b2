"""Singletons: of some actions only one plan may be active."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import transaction
from django.utils import timezone

from dynflow_app import control
from dynflow_app.exceptions import AlreadyActiveError, PlanningError, WrongStateError
from dynflow_app.models import ExecutionPlan
from dynflow_app.triggering import TriggerOptions, trigger, trigger_many
from tests.engine import Engine, outcome
from tests.testapp.journal import Journal
from tests.testapp.locking import OnlyOne

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_second_plan_is_refused_while_one_is_active(engine: Engine, journal: Journal) -> None:
    """Scenario 39."""
    first = trigger(OnlyOne, name="a")
    with pytest.raises(AlreadyActiveError, match=f"Plan {first.pk} of .*OnlyOne is active already") as refused:
        trigger(OnlyOne, name="b")
    assert refused.value.plan_id == first.pk
    second = ExecutionPlan.objects.exclude(pk=first.pk).get()
    assert (outcome(second), "is active already" in second.error["message"]) == ("stopped/error", True)

    # when the first one has stopped, another may come
    engine.run(first)
    assert outcome(first) == "stopped/success"
    assert engine.run(trigger(OnlyOne, name="c")).result == "success"


def test_the_callers_transaction_survives_the_refusal(engine: Engine, journal: Journal) -> None:
    first = trigger(OnlyOne, name="a")
    with transaction.atomic():
        with pytest.raises(AlreadyActiveError):
            trigger(OnlyOne, name="b")
        assert ExecutionPlan.objects.count() == 2
    assert outcome(first) == "planned/pending"


def test_many_at_once_cannot_be(engine: Engine, journal: Journal) -> None:
    with pytest.raises(PlanningError, match=r"Only one plan of .* may be active, so not 2 at once"):
        trigger_many(OnlyOne, [{"name": "a"}, {"name": "b"}])
    trigger_many(OnlyOne, [{"name": "a"}])
    with pytest.raises(AlreadyActiveError):
        trigger_many(OnlyOne, [{"name": "b"}])
    assert ExecutionPlan.objects.count() == 1


def paused(engine: Engine, journal: Journal) -> ExecutionPlan:
    """A plan of OnlyOne whose step failed."""
    journal.break_("run a")
    plan = trigger(OnlyOne, name="a")
    engine.run(plan)
    assert outcome(plan) == "paused/error"
    journal.repair("run a")
    return plan


def test_a_paused_plan_lets_another_be_active_and_then_cannot_be_resumed(engine: Engine, journal: Journal) -> None:
    first = paused(engine, journal)
    second = trigger(OnlyOne, name="b")

    # when somebody resumes, retries or reruns the first
    for verb in (control.resume, lambda plan: control.retry(plan.steps.get()), control.rerun):
        with pytest.raises(WrongStateError, match=f"Plan {second.pk} of .* is active, and only one may be"):
            verb(first)
    assert outcome(first) == "paused/error"

    # then that works once the second has stopped
    engine.run(second)
    control.resume(first)
    engine.run(first)
    assert outcome(first) == "stopped/success"


def test_a_paused_plan_can_be_cancelled_while_another_is_active(engine: Engine, journal: Journal) -> None:
    first = paused(engine, journal)
    second = trigger(OnlyOne, name="b")
    control.cancel(first)
    engine.run(second)
    assert (outcome(first), outcome(second)) == ("stopped/cancelled", "stopped/success")


def test_a_rerun_is_a_singleton_too(engine: Engine, journal: Journal) -> None:
    done = trigger(OnlyOne, name="a")
    engine.run(done)
    again = control.rerun(done)
    with pytest.raises(AlreadyActiveError):
        trigger(OnlyOne, name="b")
    engine.run(again)
    assert outcome(again) == "stopped/success"


def test_a_scheduled_plan_stops_if_another_is_active_at_its_time(engine: Engine, journal: Journal) -> None:
    # given one that waits for its time, which keeps nobody from being active
    soon = TriggerOptions(start_at=timezone.now() + timedelta(hours=1))
    scheduled = trigger(OnlyOne, name="later", options=soon)
    active = trigger(OnlyOne, name="now")

    # when its time has come
    scheduled.refresh_from_db()
    engine.pass_time(3600)
    engine.decide()

    # then it does not start, and says why
    assert outcome(scheduled) == "stopped/error"
    assert scheduled.error["message"] == f"Plan {active.pk} of {active.action} is active, and only one may be."
    engine.run(active)
    assert outcome(active) == "stopped/success"


def test_of_two_scheduled_for_the_same_time_one_starts(engine: Engine, journal: Journal) -> None:
    plans = [trigger(OnlyOne, name=name, options=TriggerOptions(plan_in_worker=True)) for name in "ab"]
    engine.run()
    assert [outcome(plan) for plan in plans] == ["stopped/success", "stopped/error"]
    assert journal.lines == ["run a"]
