"""A plan's page shows the plans around it, and the list leaves sub-plans out until they are asked for."""

from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse

from dynflow_app.models import ExecutionPlan, Prerequisite, SubPlans
from tests.factories import PlanFactory, StepFactory

pytestmark = pytest.mark.django_db
LIST = reverse("admin:dynflow_app_executionplan_changelist")


def page(client: Client, plan: ExecutionPlan) -> str:
    return client.get(reverse("admin:dynflow_app_executionplan_change", args=[plan.pk])).content.decode()


@pytest.fixture
def parent() -> ExecutionPlan:
    """A running plan with thirty sub-plans that went well, and one that waits for somebody."""
    plan = PlanFactory(state="running", label="All hosts")
    step = StepFactory(plan=plan, state="suspended")
    SubPlans.objects.create(step=step, total=40, made=31, success=30)
    for number in range(30):
        PlanFactory(state="stopped", label=f"host {number}", parent_step=step, position=number)
    PlanFactory(state="paused", result="error", label="host 30", parent_step=step, position=30)
    return plan


def test_the_page_of_a_parent_counts_its_sub_plans_and_shows_first_who_needs_somebody(
    admin_client: Client, parent: ExecutionPlan
) -> None:
    shown = page(admin_client, parent)
    assert "30 of 40 sub-plans ended: 30 success, 0 warning, 0 error, 0 cancelled; 31 were made." in shown
    assert shown.index("host 30") < shown.index("host 0<")
    assert f"{LIST}?parent_step__plan__id__exact={parent.pk}" in shown


def test_the_page_of_a_sub_plan_leads_to_its_parent(admin_client: Client, parent: ExecutionPlan) -> None:
    shown = page(admin_client, ExecutionPlan.objects.get(label="host 3"))
    assert "Sub-plan of" in shown
    assert "All hosts" in shown


def test_the_page_of_a_chained_plan_shows_what_it_waits_for(admin_client: Client) -> None:
    first, then = PlanFactory(state="running", label="First"), PlanFactory(state="scheduled", label="Then")
    Prerequisite.objects.create(plan=then, after=first, accepts=["success"])
    assert "Starts after" in page(admin_client, then)
    assert "Awaited by" in page(admin_client, first)


def test_the_list_leaves_sub_plans_out_until_they_are_asked_for(admin_client: Client, parent: ExecutionPlan) -> None:
    def count(query: str = "") -> int:
        return admin_client.get(f"{LIST}{query}").context["cl"].result_count

    assert count() == 1
    assert count("?sub_plans=with") == 32
    assert count(f"?parent_step__plan__id__exact={parent.pk}") == 31
    assert count("?q=host 30") == 1
