"""Reports in the admin: to look at, not to change."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from project.rex.models import Report

MAX_SHOWN = 500
"""Hosts that a report's page lists; those that did not succeed come first."""


@admin.register(Report)
class ReportAdmin(admin.ModelAdmin):
    """Reports, newest first; a page shows one host per line."""

    list_display = ("__str__", "hosts", "summary", "created_at")
    list_filter = ("created_at",)
    search_fields = ("command", "plan_id")
    date_hierarchy = "created_at"
    fields = ("plan_id", "command", "created_at", "hosts", "summary", "host_results")
    readonly_fields = fields

    def get_queryset(self, request: HttpRequest) -> QuerySet[Report]:
        """Leave the long results of all reports out of the list."""
        return super().get_queryset(request).defer("results")

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody writes reports by hand."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody changes what happened."""
        return False

    @admin.display(description=_("counts"))
    def summary(self, report: Report) -> str:
        """Write the counts as *198 succeeded, 2 failed*."""
        return ", ".join(f"{count} {status}" for status, count in report.counts.items())

    @admin.display(description=_("results"))
    def host_results(self, report: Report) -> SafeString:
        """List host, status, exit code, seconds and error."""
        ordered = sorted(report.results, key=lambda result: result["status"] == "succeeded")
        lines = ((r["host"], r["status"], r["exit_code"], r["seconds"], r["error"]) for r in ordered[:MAX_SHOWN])
        return format_html_join("", "<div><b>{}</b> {} {} {} s {}</div>", lines)
