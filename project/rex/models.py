"""Reports: the hosts of a command, and how it ended on each of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypedDict
from uuid import UUID

from django.db import models, transaction
from django.db.models import Count
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from project.rex.inventory import Host

BATCH = 1000


class HostStatus(models.TextChoices):
    """How a command ended on one host."""

    PENDING = "pending", _("pending")
    """It has not ended."""
    SUCCEEDED = "succeeded", _("succeeded")
    FAILED = "failed", _("failed")
    TIMED_OUT = "timed_out", _("timed out")
    UNREACHABLE = "unreachable", _("unreachable")
    """It was not started, however often that was tried."""
    LOST = "lost", _("lost")
    """Nobody knows how it ended: the worker died in the middle, or the connection was lost."""
    CANCELLED = "cancelled", _("cancelled")
    """It was cancelled before it began, or killed."""


class Line(TypedDict):
    """One host's line in a report; ``exit_code`` is ``None`` and ``seconds`` 0 where not known."""

    host: str
    status: str
    exit_code: int | None
    seconds: float
    error: str


def in_order(counts: dict[str, int]) -> dict[str, int]:
    """Numbers of hosts by status, in the order of `HostStatus`."""
    return {str(status): counts[status] for status in HostStatus if status in counts}


class ReportManager(models.Manager["Report"]):
    """Making reports."""

    def prepare(self, command: str, hosts: Iterable[Host]) -> Report:
        """Store the hosts of a plan that is about to be made. In the caller's transaction."""
        given = list(hosts)
        report = self.create(command=command, hosts=len(given))
        report._add((host.name, host.as_input()) for host in given)
        return report

    def begin(self, report_id: int, plan_id: UUID | str) -> Report:
        """The report of a plan: the one prepared for it or, if another plan has that, a new one for the same hosts."""
        with transaction.atomic():
            known = self.filter(plan_id=plan_id).first()
            if known is not None:
                return known
            self.filter(pk=report_id, plan_id=None).update(plan_id=plan_id)
            found = self.get(pk=report_id)
            if str(found.plan_id) == str(plan_id):
                return found
            report = self.create(plan_id=plan_id, command=found.command, hosts=found.hosts)
            report._add(found.results.values_list("host", "settings"))
            return report


class Report(models.Model):
    """How one command ended on all the hosts it was run on."""

    plan_id = models.UUIDField(_("plan"), unique=True, editable=False, null=True)
    command = models.TextField(_("command"))
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)
    ended_at = models.DateTimeField(_("ended at"), null=True)
    hosts = models.PositiveIntegerField(_("hosts"), help_text=_("Number of hosts."))
    results: models.Manager[HostResult]  # declared by the other side
    counts = models.JSONField(
        _("counts"), default=dict, help_text=_("Number of hosts by status, when the plan ended or later.")
    )

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

    @property
    def totals(self) -> dict[str, int]:
        """`counts` in the order of `HostStatus`; PostgreSQL has an order of its own."""
        return in_order(self.counts)

    @property
    def lines(self) -> list[Line]:
        """All hosts in the order of the inventory."""
        rows: list[Any] = list(self.results.values("host", "status", "exit_code", "seconds", "error"))
        return rows

    def count(self) -> dict[str, int]:
        """How many hosts have which status now."""
        rows = self.results.order_by().values_list("status").annotate(Count("id"))
        return in_order(dict(rows))

    def close(self) -> None:
        """Write the totals; nothing is expected any more."""
        self.counts = self.count()
        Report.objects.filter(pk=self.pk, ended_at=None).update(ended_at=Now())
        Report.objects.filter(pk=self.pk).update(counts=self.counts)

    def _add(self, rows: Iterable[tuple[str, dict[str, Any]]]) -> None:
        HostResult.objects.bulk_create(
            (
                HostResult(report=self, position=position, host=host, settings=settings)
                for position, (host, settings) in enumerate(rows)
            ),
            batch_size=BATCH,
        )


class HostResultManager(models.Manager["HostResult"]):
    """Writing results."""

    def record(self, result_id: int, plan_id: UUID | str, **values: Any) -> None:
        """Write how the command ended on one host; `plan_id` is its sub-plan, or a later plan for the same host.

        Totals that were written are corrected. No error if the report was deleted.
        """
        self.filter(pk=result_id).update(plan_id=plan_id, **values)
        for report in Report.objects.filter(results=result_id, ended_at__isnull=False):
            report.close()


class HostResult(models.Model):
    """One host of a report: how it is reached, and how the command ended there."""

    report = models.ForeignKey(Report, models.CASCADE, related_name="results", verbose_name=_("report"))
    position = models.PositiveIntegerField(_("position"))
    host = models.TextField(_("host"))
    settings = models.JSONField(_("settings"), help_text=_("What the inventory says about it."))
    plan_id = models.UUIDField(_("plan"), null=True, help_text=_("The plan that wrote this result."))
    status = models.CharField(_("status"), max_length=16, choices=HostStatus, default=HostStatus.PENDING)
    exit_code = models.IntegerField(_("exit code"), null=True)
    seconds = models.FloatField(_("seconds"), default=0.0)
    error = models.TextField(_("error"), default="")

    objects = HostResultManager()

    class Meta:
        verbose_name = _("result")
        verbose_name_plural = _("results")
        ordering = ("position",)
        constraints = [models.UniqueConstraint(fields=("report", "position"), name="rex_result_position")]
        indexes = [models.Index(fields=("report", "status"), name="rex_result_status")]

    def __str__(self) -> str:
        return f"{self.host}: {self.status}"
