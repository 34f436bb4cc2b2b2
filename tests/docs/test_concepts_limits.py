"""What the how-tos about limits and about plans that wait promise: their examples run on the real engine."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from django.core.checks import run_checks
from django.db.models import F

from dynflow_app import BaseAction, control
from dynflow_app.actions import registry
from dynflow_app.exceptions import PlanningError
from dynflow_app.models import ExecutionPlan, Limit, Step, Ticket
from dynflow_app.reading.explaining import FindingCode, explain
from dynflow_app.triggering import trigger, trigger_many
from tests.docs.blocks import DOCS, table
from tests.docs.following import FollowedPage
from tests.engine import Engine, outcome

if TYPE_CHECKING:
    from pytest_django import DjangoAssertNumQueries

pytestmark = pytest.mark.django_db(transaction=True)
Open = Callable[..., FollowedPage]


# --- limit how much runs at once -----------------------------------------------------------------------------------


@pytest.fixture
def called() -> list[str]:
    """Regions that were called."""
    return []


@pytest.fixture
def call_cloud(page: Open, called: list[str]) -> type[BaseAction]:
    found = page("limit-steps", call=called.append)
    found.follow()
    kind: type[BaseAction] = found["CallCloud"]
    return kind


def passed() -> int:
    """How many steps are ready, and not throttled."""
    return Ticket.objects.claimable().count()


def let_starts_come(engine: Engine, seconds: float) -> None:
    """Let the next start of every limit be `seconds` nearer, and see who passes."""
    step = timedelta(seconds=seconds)
    Limit.objects.update(next_start_at=F("next_start_at") - step, wakes_at=F("wakes_at") - step)
    engine.decide()


def test_one_starts_at_a_time_and_two_run_at_once_in_a_region(
    call_cloud: type[BaseAction], engine: Engine, called: list[str]
) -> None:
    plans = trigger_many(call_cloud, [{"region": "eu"}] * 4)
    limit = Limit.objects.get()
    assert (limit.key, limit.most, limit.starts, limit.period) == ("cloud eu", 2, 600, 60)
    engine.decide()
    let_starts_come(engine, 1)
    assert passed() == 2, "though ten might have started"
    (finding,) = (found for found in explain(plans[3]) if found.code == FindingCode.THROTTLED)
    assert "'cloud eu': 2 of 2 steps occupy it" in finding.message

    # When those two have ended, the others pass
    engine.work()
    let_starts_come(engine, 1)
    engine.work()
    assert called == ["eu"] * 4


def test_a_rate_is_a_pace(call_cloud: type[BaseAction], engine: Engine) -> None:
    class Unlimited(call_cloud):
        concurrency_limit = None

    trigger_many(Unlimited, [{"region": "eu"}] * 40)
    engine.decide()
    assert 1 <= passed() < 20, "one each tenth of a second"
    let_starts_come(engine, 3600)
    assert 20 <= passed() < 40, "two seconds' worth of missed starts are made up for"


def test_another_region_has_a_limit_of_its_own(call_cloud: type[BaseAction], engine: Engine) -> None:
    trigger_many(call_cloud, [{"region": region} for region in ("eu", "eu", "us")])
    let_starts_come(engine, 0)
    assert set(Limit.objects.values_list("key", flat=True)) == {"cloud eu", "cloud us"}
    assert Step.objects.get(limit_key="cloud us").ticket.throttled_by is None


def test_a_step_that_waits_keeps_its_place_and_a_failed_one_does_not(page: Open, engine: Engine) -> None:
    class Waits(BaseAction):
        concurrency_limit = 1

        def run(self, event: object = None) -> None:
            if event is None:
                self.suspend()
            raise RuntimeError("not approved")

    first, second = trigger(Waits), trigger(Waits)
    engine.run(first)
    assert first.steps.get().state == "suspended"
    assert second.steps.get().ticket.throttled_by == second.steps.get().limit_key
    control.send_event(first.steps.get(), "no")
    engine.run(first)
    assert (first.state, second.steps.get().state) == ("paused", "suspended")


def test_a_key_is_made_of_what_is_known_and_not_secret(call_cloud: type[BaseAction]) -> None:
    class Secretive(call_cloud):
        sensitive = {"region"}

    class Chained(BaseAction):
        def plan(self) -> None:
            first = self.plan_action(call_cloud, region="eu")
            self.plan_action(call_cloud, region=first.output["region"])

    with pytest.raises(PlanningError, match="sensitive"):
        trigger(Secretive, region="eu")
    with pytest.raises(PlanningError, match="known when the action is planned"):
        trigger(Chained)


# --- find out why a plan does not move -----------------------------------------------------------------------------


def test_the_engine_says_what_a_plan_waits_for(
    page: Open, engine: Engine, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    found = page("find-out-why-a-plan-waits")

    class Approve(BaseAction):
        __module__ = found["__name__"]
        __qualname__ = "Approve"

        def run(self, event: object = None) -> None:
            if event is None:
                self.suspend()

    plan = found["plan"] = engine.run(trigger(Approve))
    found.follow()
    with django_assert_max_num_queries(9):
        (finding,) = explain(plan)
    assert (finding.code, finding.step_number) == (FindingCode.EVENT_WAITS, 1)
    control.send_event(plan.steps.get(), "approved")
    assert outcome(engine.run(plan)) == "stopped/success"
    assert explain(plan) == []


def test_every_code_is_explained() -> None:
    rows = table(DOCS / "how-to" / "find-out-why-a-plan-waits.md", "# Find out why a plan does not move")
    listed = [code.strip(" `") for row in rows for code in row[0].split(",")]
    assert sorted(listed) == sorted(FindingCode)


# --- deploy changed actions ----------------------------------------------------------------------------------------


def test_a_step_without_its_code_waits_until_the_code_is_back(page: Open, engine: Engine) -> None:
    found = page("deploy-changed-actions")

    class Convert(BaseAction):
        __module__ = found["__name__"]
        __qualname__ = "Convert"

        def run(self) -> None:
            raise NotImplementedError

    plan: ExecutionPlan = trigger(Convert, file="a.avi")
    found["plan"] = plan
    del registry._classes["hosts.actions.Convert"]  # as a worker that was deployed without it
    engine.run(plan)
    assert (plan.state, plan.steps.get().state) == ("running", "suspended")
    found.follow()
    assert "dynflow_app.W010" in {warning.id for warning in run_checks(tags=["dynflow"])}

    # When a worker has the old name again, it goes on by itself
    found.follow()
    engine.pass_time(4)
    assert engine.run(plan).state == "running"
    engine.pass_time(1)
    assert outcome(engine.run(plan)) == "stopped/success"
    assert plan.actions.get().output == {"converted": "a.avi"}
    assert "dynflow_app.W010" not in {warning.id for warning in run_checks(tags=["dynflow"])}


def test_what_was_planned_is_kept_and_the_rest_is_new(page: Open, engine: Engine) -> None:
    class Renamed(BaseAction):
        priority = 3

        def run(self) -> None:
            raise NotImplementedError

    plan = trigger(Renamed)
    Renamed.priority = 5

    def run(action: BaseAction) -> None:
        action.output["by"] = "new code"

    Renamed.run = run
    assert outcome(engine.run(plan)) == "stopped/success"
    assert (plan.steps.get().priority, plan.actions.get().output) == (3, {"by": "new code"})
