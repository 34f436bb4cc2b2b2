"""Reports in the admin: to look at, not to change."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from project.rex.models import HostResult, HostStatus, Report

MAX_SHOWN = 500
"""Hosts that a report's page lists; those that did not succeed come first."""


class ReadOnlyAdmin(admin.ModelAdmin):
    """Nobody writes by hand, or changes what happened."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody."""
        return False


@admin.register(Report)
class ReportAdmin(ReadOnlyAdmin):
    """Reports, newest first; a page shows one host per line."""

    list_display = ("__str__", "hosts", "summary", "created_at", "ended_at")
    list_filter = ("created_at",)
    search_fields = ("command", "plan_id")
    date_hierarchy = "created_at"
    fields = ("plan", "command", "created_at", "ended_at", "hosts", "by_status", "host_results")
    readonly_fields = fields

    @admin.display(description=_("counts"))
    def summary(self, report: Report) -> str:
        """Write the counts as *198 succeeded, 2 failed*."""
        return ", ".join(f"{count} {HostStatus(status).label}" for status, count in report.totals.items())

    @admin.display(description=_("plan"))
    def plan(self, report: Report) -> str:
        """Link the plan."""
        return plan_link(report.plan_id)

    @admin.display(description=_("counts"))
    def by_status(self, report: Report) -> SafeString:
        """As `summary`, but as it is now; each status links the list of its hosts."""
        url = reverse("admin:rex_hostresult_changelist")
        links = ((url, report.pk, status, count, HostStatus(status).label) for status, count in report.count().items())
        return format_html_join(", ", '<a href="{}?report__id__exact={}&amp;status__exact={}">{} {}</a>', links)

    @admin.display(description=_("results"))
    def host_results(self, report: Report) -> SafeString:
        """List host, status, exit code, seconds and error."""
        others = report.results.exclude(status=HostStatus.SUCCEEDED)[:MAX_SHOWN]
        rest = report.results.filter(status=HostStatus.SUCCEEDED)[: MAX_SHOWN - len(others)]
        lines = (
            (each.host, each.get_status_display(), "" if each.exit_code is None else each.exit_code, each.seconds,
             each.error)
            for each in [*others, *rest]
        )  # fmt: skip
        return format_html_join("", "<div><b>{}</b> {} {} {} s {}</div>", lines)


@admin.register(HostResult)
class HostResultAdmin(ReadOnlyAdmin):
    """Hosts of reports, by status."""

    list_display = ("host", "status", "exit_code", "seconds", "error", "plan")
    list_filter = ("status",)
    search_fields = ("host",)
    fields = ("report", "host", "settings", "status", "exit_code", "seconds", "error", "plan")
    readonly_fields = fields
    show_full_result_count = False

    def get_queryset(self, request: HttpRequest) -> QuerySet[HostResult]:
        """The newest reports first."""
        return super().get_queryset(request).order_by("-report_id", "position")

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """Reports link the lists of their hosts."""
        return lookup == "report__id__exact" or super().lookup_allowed(lookup, value, request)

    @admin.display(description=_("plan"))
    def plan(self, result: HostResult) -> str:
        """Link the plan that wrote the result."""
        return plan_link(result.plan_id)


def plan_link(plan_id: Any) -> str:
    """The plan's id, as a link where there is a page."""
    if plan_id is None:
        return "-"
    try:
        url = reverse("admin:dynflow_app_executionplan_change", args=[plan_id])
    except NoReverseMatch:
        return str(plan_id)
    return format_html('<a href="{}">{}</a>', url, plan_id)
