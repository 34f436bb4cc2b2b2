"""What the how-to about fairness promises: its examples run on the real engine, and what it says is so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from django.db.models import F

from dynflow_app import BaseAction, SubPlansAction, control
from dynflow_app.actions.sub_plans import SubPlan
from dynflow_app.exceptions import PlanningError
from dynflow_app.models import ExecutionPlan, Step, Ticket
from dynflow_app.models.ticket import own_key
from dynflow_app.reading.explaining import FindingCode, explain
from dynflow_app.triggering import TriggerOptions, trigger, trigger_many
from tests.docs.following import FollowedPage
from tests.engine import Engine, outcome

pytestmark = pytest.mark.django_db(transaction=True)
Open = Callable[..., FollowedPage]


@pytest.fixture
def imported() -> list[tuple[str, str]]:
    """Tenant and file of each import that ran."""
    return []


@pytest.fixture
def import_action(page: Open, imported: list[tuple[str, str]]) -> type[BaseAction]:
    """The action of the page alone."""
    found = page("share-workers-fairly", whole=False, import_file=lambda *what: imported.append(what))
    found.follow()
    kind: type[BaseAction] = found["Import"]
    return kind


def in_line() -> list[str]:
    """Who is next, and next but one, and so on."""
    return list(Ticket.objects.claimable().order_by("rank", "tag", "step").values_list("fairness_key", flat=True))


def test_who_has_three_times_the_weight_has_three_times_the_turns(
    page: Open, engine: Engine, imported: list[tuple[str, str]]
) -> None:
    found = page("share-workers-fairly", import_file=lambda *what: imported.append(what))
    found.follow(2)
    assert in_line()[0] == "tenant red", "which came first"
    assert in_line()[1:6].count("tenant blue") == 4
    assert in_line()[6:] == ["tenant red"] * 2

    # the last one says that it waits
    found.follow()
    engine.work(threads=1)
    assert sorted(imported) == [(tenant, f"{file}.csv") for tenant in ("blue", "red") for file in "abcd"]
    assert {outcome(plan) for plan in ExecutionPlan.objects.all()} == {"stopped/success"}


def test_a_small_plan_does_not_wait_for_a_large_one() -> None:
    class Work(BaseAction):
        def run(self) -> None:
            """Nothing."""

    class Large(BaseAction):
        def plan(self) -> None:
            for _ in range(50):
                self.plan_action(Work)

    trigger(Large)
    small = trigger(Work)
    line = Ticket.objects.claimable().order_by("rank", "tag", "step").values_list("step__plan", flat=True)
    assert len(line) == 51
    assert list(line).index(small.pk) <= 1


def test_plans_of_one_tenant_share(import_action: type[BaseAction]) -> None:
    trigger_many(import_action, [{"tenant": "red", "file": str(n)} for n in range(20)])
    trigger(import_action, tenant="blue", file="1")
    assert in_line().index("tenant blue") <= 1


def test_the_option_counts_before_the_attribute_and_a_priority_before_both(import_action: type[BaseAction]) -> None:
    class Dear(import_action):
        fairness_weight = 7

    options = TriggerOptions(fairness_key="us", fairness_weight=0.5, priority=1)
    plans = [trigger(Dear, tenant="red", file="1"), trigger(Dear, tenant="red", file="2", options=options)]
    assert [(plan.fairness_key, plan.fairness_weight) for plan in plans] == [("tenant red", 7), ("us", 0.5)]
    assert in_line() == ["us", "tenant red"]
    for weight in (0, 1001, "much"):
        with pytest.raises(PlanningError, match="above 0 and up to 1000"):
            trigger(Dear, tenant="red", file="3", options=TriggerOptions(fairness_weight=weight))  # type: ignore[arg-type]


def test_a_family_shares_and_so_does_what_is_made_of_it(import_action: type[BaseAction], engine: Engine) -> None:
    class All(SubPlansAction):
        fairness_weight = 2

        def total(self) -> int:
            return 3

        def sub_plans(self, start: int, stop: int) -> Iterator[SubPlan]:
            for n in range(start, stop):
                yield self.sub_plan(import_action, tenant="red", file=str(n))

    parent = engine.run(trigger(All))
    children = ExecutionPlan.objects.filter(parent_step__plan=parent)
    assert set(children.values_list("fairness_key", "fairness_weight")) == {(own_key(parent.pk), 2.0)}

    again = control.rerun(engine.run(trigger(import_action, tenant="red", file="1")))
    assert again.fairness_key == "tenant red"


def test_a_key_is_made_of_what_is_known_and_not_secret(import_action: type[BaseAction]) -> None:
    class Secretive(import_action):
        sensitive = {"tenant"}

    with pytest.raises(PlanningError, match="sensitive"):
        trigger(Secretive, tenant="red", file="1")


def test_after_a_while_the_queue_is_backed_up(import_action: type[BaseAction], engine: Engine) -> None:
    plans = [trigger(import_action, tenant="red", file=str(n)) for n in range(2)]
    assert [finding.code for finding in explain(plans[1])] == [FindingCode.TURN_WAITS]
    Step.objects.update(ready_at=F("ready_at") - timedelta(seconds=11))
    assert [finding.code for finding in explain(plans[1])] == [FindingCode.QUEUE_BACKED_UP]
