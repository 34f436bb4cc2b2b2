"""What the page of a plan shows of others: its parent, its sub-plans, what it waits for, and what waits for it."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Case, IntegerField, QuerySet, Value, When
from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext_lazy as _

from dynflow_app.admin import formats
from dynflow_app.admin.badges import plan_badge
from dynflow_app.models import ExecutionPlan, SubPlans
from dynflow_app.states import PlanResult, PlanState

SHOWN = 20
CHILDREN_OF = "parent_step__plan__id__exact"


class TopLevelFilter(admin.SimpleListFilter):
    """Sub-plans are left out of the list, unless they are asked for."""

    title = _("sub-plans")
    parameter_name = "sub_plans"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """The choice beside leaving them out."""
        return [("with", _("Show them, too"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """All plans, those of one parent, or those without parent."""
        if self.value() == "with" or CHILDREN_OF in request.GET or request.GET.get("q"):
            return queryset
        return queryset.filter(parent_step=None)


def context(plan: ExecutionPlan) -> dict[str, Any]:
    """Variables of the template."""
    plans = ExecutionPlan.objects.defer("error")
    rows = list(SubPlans.objects.filter(step__plan=plan).order_by("step_id")[:SHOWN])
    parent = plans.filter(steps=plan.parent_step_id).first() if plan.parent_step_id else None
    relations = [
        (_("Sub-plan of"), [parent] if parent else []),
        (_("Starts after"), list(plans.filter(dependents__plan=plan).order_by("pk")[:SHOWN])),
        (_("Awaited by"), list(plans.filter(prerequisites__after=plan).order_by("pk")[:SHOWN])),
        (_("Made from"), list(plans.filter(pk=plan.made_from_id)) if plan.made_from_id else []),
        (_("Sub-plans"), list(_children(plan)[:SHOWN]) if rows else []),
    ]
    return {
        "relations": [(title, [_line(each) for each in found]) for title, found in relations if found],
        "sub_plans": rows,
        "sub_plans_url": f"{reverse('admin:dynflow_app_executionplan_changelist')}?{CHILDREN_OF}={plan.pk}",
    }


def _children(plan: ExecutionPlan) -> QuerySet[ExecutionPlan]:
    """Those first that need somebody, then those that have not ended."""
    need = Case(
        When(state=PlanState.PAUSED, then=Value(0)),
        When(result__in=(PlanResult.ERROR, PlanResult.CANCELLED), then=Value(1)),
        When(state=PlanState.STOPPED, then=Value(3)),
        default=Value(2),
        output_field=IntegerField(),
    )
    children = ExecutionPlan.objects.filter(parent_step__plan=plan, position__isnull=False).defer("error")
    return children.alias(need=need).order_by("need", "position")


def _line(plan: ExecutionPlan) -> tuple[str, Any, str]:
    url = reverse("admin:dynflow_app_executionplan_change", args=[plan.pk])
    return url, plan_badge(plan, {}), formats.title(plan)
