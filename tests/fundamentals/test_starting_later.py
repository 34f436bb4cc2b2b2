"""A plan may start later: its start is a durable timer, which fires once, whatever was stopped in between."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta

import pytest
from django.utils import timezone

from dynflow_app.exceptions import PlanningError
from dynflow_app.models import Envelope
from dynflow_app.states import PlanResult, PlanState
from dynflow_app.triggering import TriggerOptions, trigger
from tests.engine import Engine
from tests.support import Processes, wait_until
from tests.testapp.actions import Record
from tests.testapp.journal import Journal


@pytest.mark.django_db(transaction=True)
def test_a_plan_waits_for_its_time_and_then_starts_once(engine: Engine, journal: Journal) -> None:
    # given a plan that is to start in an hour
    plan = trigger(Record, name="later", options=TriggerOptions(start_at=timezone.now() + timedelta(hours=1)))

    # when the engine looks at it before that
    assert engine.decide() == 0
    assert engine.work() == 0
    plan.refresh_from_db()
    assert plan.state == PlanState.PLANNED
    assert journal.lines == []

    # and when the hour has passed
    Envelope.objects.filter(plan=plan).update(due_at=timezone.now() - timedelta(seconds=1))
    engine.run(plan)

    # then it has run, once
    assert (plan.state, plan.result) == (PlanState.STOPPED, PlanResult.SUCCESS)
    assert journal.lines == ["run later"]


@pytest.mark.django_db
def test_a_time_without_zone_is_refused() -> None:
    with pytest.raises(PlanningError, match="time zone"):
        trigger(Record, name="later", options=TriggerOptions(start_at=datetime(2030, 1, 1)))  # noqa: DTZ001 - the point


@pytest.mark.servers
@pytest.mark.processes
def test_timers_due_while_everything_was_down_fire_once_after_the_start(processes: Processes, journal: Journal) -> None:
    # given plans that were to start while no process ran
    soon = timezone.now() + timedelta(milliseconds=300)
    plans = [trigger(Record, name=str(n), options=TriggerOptions(start_at=soon)) for n in range(20)]
    wait_until(lambda: timezone.now() > soon, describe="their time has come")

    # when the processes start
    processes.manage("dynflow_orchestrator")
    processes.manage("rqworker", "default")

    # then each runs once
    for plan in plans:
        assert plan.wait(timeout=30).result == PlanResult.SUCCESS
    assert Counter(journal.lines) == Counter(f"run {n}" for n in range(20))
