"""Timers survive whatever is killed: each fires, and fires once."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from django.db.models.functions import Now

from dynflow_app.models import ExecutionPlan
from dynflow_app.triggering import trigger
from tests.acceptance.test_crashes import FAST
from tests.support import Processes, wait_until
from tests.testapp.journal import Journal
from tests.testapp.looking import ManyLooks

pytestmark = [pytest.mark.servers, pytest.mark.processes]

SETTINGS = json.dumps({**json.loads(FAST), "ACTIONS_MODULE": "looking"})

EVERY_LOOK = {f"look {number} {look}" for number in range(20) for look in range(1, 6)}


@pytest.mark.parametrize("deed", ["kill@1", "kill@4", "raise@2", "stop@2"])
@pytest.mark.parametrize("probe", ["timers_fired", "decision_committed", "lease_renewed"])
def test_an_orchestrator_that_breaks_loses_no_timer_and_repeats_none(
    processes: Processes, journal: Journal, probe: str, deed: str
) -> None:
    # given steps that live by their timers, and an orchestrator that breaks, with a standby
    processes.manage("dynflow_orchestrator", DYNFLOW_SETTINGS=SETTINGS, DYNFLOW_PROBES=f"{probe}={deed}")
    processes.manage("rqworker", "default", DYNFLOW_SETTINGS=SETTINGS)
    plan = trigger(ManyLooks)
    processes.manage("dynflow_orchestrator", DYNFLOW_SETTINGS=SETTINGS)

    # when the plan runs, then every look took place, once
    assert plan.wait(timeout=40).result == "success"
    assert Counter(journal.lines) == dict.fromkeys(EVERY_LOOK, 1)


@pytest.mark.parametrize("probe", ["steps_claimed", "user_code_returned", "outcomes_written", "outcomes_committed"])
def test_a_worker_that_is_killed_loses_no_timer(processes: Processes, journal: Journal, probe: str) -> None:
    # given a worker whose child dies at a point, in the middle of steps that may be repeated
    processes.manage("dynflow_orchestrator", DYNFLOW_SETTINGS=SETTINGS)
    processes.manage("rqworker", "default", DYNFLOW_SETTINGS=SETTINGS, DYNFLOW_PROBES=f"{probe}=kill@3")
    plan = trigger(ManyLooks)

    # when the plan runs, then every look took place; only what was under way may have taken place twice
    assert plan.wait(timeout=40).result == "success"
    assert set(journal.lines) == EVERY_LOOK
    assert max(Counter(journal.lines).values()) <= 2


def test_timers_that_come_due_while_all_is_down_fire_after_the_start(processes: Processes, journal: Journal) -> None:
    """Scenario 51, with processes."""
    # given suspended steps, and everything killed
    orchestrator = processes.manage("dynflow_orchestrator", DYNFLOW_SETTINGS=SETTINGS)
    worker = processes.manage("rqworker", "default", DYNFLOW_SETTINGS=SETTINGS)
    plan = trigger(ManyLooks)
    wait_until(lambda: len(journal.lines) >= 20, describe="the first looks")
    orchestrator.kill()
    wait_until(lambda: not plan.steps.filter(state__in=("ready", "running")).exists(), describe="all wait")
    worker.kill()
    before = len(journal.lines)
    wait_until(lambda: is_all_due(plan), describe="every alarm is due")
    assert len(journal.lines) == before

    # when everything starts again
    processes.manage("dynflow_orchestrator", DYNFLOW_SETTINGS=SETTINGS)
    processes.manage("rqworker", "default", DYNFLOW_SETTINGS=SETTINGS)

    # then each fires once
    assert plan.wait(timeout=40).result == "success"
    assert Counter(journal.lines) == dict.fromkeys(EVERY_LOOK, 1)


def is_all_due(plan: ExecutionPlan) -> bool:
    return not plan.steps.filter(alarm_at__gt=Now()).exists()
