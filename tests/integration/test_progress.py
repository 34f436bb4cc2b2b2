"""How much of a plan is done, and how long the rest may take."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from dynflow_app import clock
from dynflow_app.models import ExecutionPlan
from dynflow_app.reading.progress import eta, progress_of, rounded_up
from tests.factories import PlanFactory, StepFactory, add_steps

pytestmark = pytest.mark.django_db


def progress(plan: ExecutionPlan) -> float:
    """Of one plan."""
    return progress_of([plan])[plan.pk]


def finished(count: int, *, seconds: float = 100, **fields: Any) -> None:
    """So many earlier runs of the same action, which took so long."""
    for _ in range(count):
        began = clock.now() - timedelta(hours=1)
        PlanFactory(state="stopped", started_at=began, ended_at=began + timedelta(seconds=seconds), **fields)


# --- progress ------------------------------------------------------------------------------------------------------


def test_weights_decide_how_much_each_step_counts() -> None:
    # given a heavy run step that is done, a polling one at a fifth, and a heavy finalize that waits
    plan = PlanFactory(state="running")
    StepFactory(plan=plan, state="success", weight=4)
    StepFactory(plan=plan, state="suspended", weight=1, progress=0.2)
    StepFactory(plan=plan, state="pending", weight=5, phase="finalize")

    # then
    assert progress(plan) == pytest.approx(0.42)


@pytest.mark.parametrize(
    ("state", "share"),
    [
        ("pending", 0.0),
        ("ready", 0.5),
        ("running", 0.5),
        ("suspended", 0.5),
        ("error", 0.5),
        ("success", 1.0),
        ("skipped", 1.0),
        ("cancelled", 1.0),
    ],
)
def test_what_a_step_counts_in_each_state(state: str, share: float) -> None:
    plan = PlanFactory(state="paused")
    StepFactory(plan=plan, state=state, progress=0.5)

    assert progress(plan) == share


def test_steps_outside_the_flow_do_not_count() -> None:
    plan = PlanFactory(state="running")
    add_steps(plan, 1, "success")
    for number, phase in enumerate(("rescue", "skip", "hook"), 2):
        StepFactory(plan=plan, state="ready", phase=phase, number=number)

    assert progress(plan) == 1.0


def test_a_stopped_plan_shows_what_was_done_really() -> None:
    plan = PlanFactory(state="stopped", result="error")
    add_steps(plan, 1, "success")
    add_steps(plan, 3, "pending", first=2)

    assert progress(plan) == 0.25


def test_without_steps_only_a_stopped_plan_is_done() -> None:
    assert progress(PlanFactory(state="stopped")) == 1.0
    assert progress(PlanFactory(state="planned")) == 0.0


def test_many_plans_take_one_query() -> None:
    plans = [PlanFactory(state="running") for _ in range(5)]
    for done, plan in enumerate(plans):
        add_steps(plan, done)
        add_steps(plan, 4 - done, "pending", first=done + 1)

    with CaptureQueriesContext(connection) as captured:
        found = progress_of(plans)

    assert len(captured) == 1
    assert [found[plan.pk] for plan in plans] == [0.0, 0.25, 0.5, 0.75, 1.0]


# --- time left -----------------------------------------------------------------------------------------------------


def test_the_median_of_earlier_runs_tells_what_is_left() -> None:
    finished(4, seconds=100)
    finished(1, seconds=9000)

    assert eta(PlanFactory(state="running"), 0.5) == timedelta(seconds=50)


def test_nobody_can_tell_from_few_runs_or_at_the_beginning() -> None:
    plan = PlanFactory(state="running")
    finished(4)
    finished(3, result="error")
    finished(3, action="other.Action")
    assert eta(plan, 0.5) is None

    finished(1)
    assert eta(plan, 0.5) is not None
    assert eta(plan, 0.09) is None


def test_only_the_latest_runs_count() -> None:
    finished(5, created_at=clock.now() - timedelta(days=1))
    finished(20, result="error")

    assert eta(PlanFactory(state="running"), 0.5) is None


@pytest.mark.parametrize("state", ["planned", "paused", "stopped"])
def test_what_does_not_run_has_no_time_left(state: str) -> None:
    finished(5)

    assert eta(PlanFactory(state=state), 0.5) is None


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (-3, 0), (0, 0), (0.1, 5), (5, 5), (5.1, 10), (116, 120), (120, 120), (121, 180), (3540.5, 3600),
        (3600, 3600), (3601, 3900), (7200, 7200),
    ],
)  # fmt: skip
def test_rounding_is_coarser_the_longer_it_takes(given: float, shown: int) -> None:
    assert rounded_up(timedelta(seconds=given)) == timedelta(seconds=shown)
