"""Plans in the admin."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from dynflow_app.admin import formats, plan_page
from dynflow_app.admin.badges import plan_badge
from dynflow_app.admin.base import ReadOnlyAdmin
from dynflow_app.admin.family import CHILDREN_OF, TopLevelFilter
from dynflow_app.models import ExecutionPlan
from dynflow_app.reading import console
from dynflow_app.reading.progress import progress_of

_HEX = re.compile(r"[0-9a-f]{8,32}")


class PlanList(ChangeList):
    """A page of plans that knows the states of all their steps, from two console."""

    def get_queryset(self, request: HttpRequest, *args: Any, **kwargs: Any) -> QuerySet[Any]:
        """Leave out the errors of planning, which may be long."""
        return super().get_queryset(request, *args, **kwargs).defer("error")

    def get_results(self, request: HttpRequest) -> None:
        """Fetch the page, then count the steps of its plans."""
        super().get_results(request)
        plans: list[Any] = list(self.result_list)
        self.result_list = plans
        counts = console.counts_by_state([plan.pk for plan in plans]) if plans else {}
        shares = progress_of(plans) if plans else {}
        for plan in plans:
            plan.step_counts = counts.get(plan.pk, {})
            plan.share = shares[plan.pk]


@admin.register(ExecutionPlan)
class ExecutionPlanAdmin(ReadOnlyAdmin):
    """Plans, newest first; a page per plan with its steps, errors and output."""

    list_display = ("state_badge", "plan", "progress", "started", "took", "triggered_by")
    list_display_links = ("plan",)
    list_filter = ("state", "result", TopLevelFilter, "created_at")
    ordering = ("-created_at", "-id")
    search_fields = ("label",)
    search_help_text = _("An id, at least its first 8 characters; or the beginning of a label.")
    fields = ("label",)

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        """The page of a plan links to the list of its sub-plans."""
        return lookup == CHILDREN_OF or super().lookup_allowed(lookup, value, request)  # type: ignore[arg-type]

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """Our own list, which counts steps."""
        return PlanList

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Find ids by their beginning, through the primary key; otherwise labels by theirs."""
        term = search_term.strip()
        if not term:
            return queryset, False
        return queryset.filter(_id_begins_with(term) | Q(label__istartswith=term)), False

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, Any],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Any = None,
    ) -> HttpResponse:
        """Add what the template shows."""
        if obj is not None:
            context.update(plan_page.context(obj, request.GET.get("page", "")))
        return super().render_change_form(request, context, add, change, form_url, obj)

    @admin.display(description=_("state"))
    def state_badge(self, plan: Any) -> str:
        """State and result."""
        return plan_badge(plan, plan.step_counts).__html__()

    @admin.display(description=_("plan"))
    def plan(self, plan: Any) -> str:
        """What people call it, and under that how programs call it."""
        return format_html(
            '{}<span class="dynflow-second" title="{}">{} · {}</span>',
            formats.title(plan),
            plan.pk,
            plan.action,
            formats.short_id(plan),
        )

    @admin.display(description=_("progress"))
    def progress(self, plan: Any) -> str:
        """How much is done, and how many steps ended."""
        return formats.progress(plan.step_counts, plan.share)

    @admin.display(description=_("started"))
    def started(self, plan: Any) -> str:
        """When the first step could run."""
        return formats.moment(plan.started_at)

    @admin.display(description=_("duration"))
    def took(self, plan: Any) -> str:
        """From start to end, or until now."""
        return formats.between(plan.started_at, plan.ended_at)


def _id_begins_with(term: str) -> Q:
    digits = term.lower().replace("-", "")
    if not _HEX.fullmatch(digits):
        return Q(pk__in=())
    return Q(pk__range=(UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f"))))
