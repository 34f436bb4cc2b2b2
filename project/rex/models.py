"""Reports: how a command ended on each of its hosts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TypedDict
from uuid import UUID

from django.db import models
from django.utils.translation import gettext_lazy as _


class HostStatus(models.TextChoices):
    """How a command ended on one host; all but *lost* are the statuses of an execution."""

    SUCCEEDED = "succeeded", _("succeeded")
    FAILED = "failed", _("failed")
    TIMED_OUT = "timed_out", _("timed out")
    UNREACHABLE = "unreachable", _("unreachable")
    LOST = "lost", _("lost")
    """The worker died in the middle, so nobody knows how it ended."""


class HostResult(TypedDict):
    """One host's line in a report; ``seconds`` is 0 and ``exit_code`` is ``None`` where not known."""

    host: str
    status: str
    exit_code: int | None
    seconds: float
    error: str


class ReportManager(models.Manager["Report"]):
    """Reports in bulk."""

    def store(self, plan_id: UUID | str, command: str, results: Sequence[HostResult]) -> Report:
        """Write the report of a plan, replacing one of an earlier attempt to finalize it."""
        counts = Counter(result["status"] for result in results)
        report, _created = self.update_or_create(
            plan_id=plan_id,
            defaults={
                "command": command,
                "hosts": len(results),
                "counts": {str(status): counts[status] for status in HostStatus if counts[status]},
                "results": list(results),
            },
        )
        return report


class Report(models.Model):
    """How one command ended on all the hosts it was run on."""

    plan_id = models.UUIDField(_("plan"), unique=True, editable=False)
    command = models.TextField(_("command"))
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)
    hosts = models.PositiveIntegerField(_("hosts"), help_text=_("Number of hosts."))
    counts = models.JSONField(_("counts"), default=dict, help_text=_("Number of hosts by status."))
    results = models.JSONField(_("results"), default=list, help_text=_("One entry for each host."))

    objects = ReportManager()

    class Meta:
        verbose_name = _("report")
        verbose_name_plural = _("reports")
        ordering = ("-created_at", "-id")

    def __str__(self) -> str:
        first_line = self.command.strip().partition("\n")[0]
        return f"{first_line[:60]} on {self.hosts} hosts"

    @property
    def all_succeeded(self) -> bool:
        """Whether the command succeeded on every host."""
        return bool(self.counts.get(HostStatus.SUCCEEDED, 0) == self.hosts)
