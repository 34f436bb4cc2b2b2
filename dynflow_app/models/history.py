"""History: who did what to a plan, and why."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from dynflow_app import clock
from dynflow_app.models.base import LedgerManager, LedgerQuerySet
from dynflow_app.models.execution_plan import ExecutionPlan


class HistoryEntry(models.Model):
    """One verb applied to a plan. Never changed afterwards."""

    id = models.BigAutoField(primary_key=True)
    plan = models.ForeignKey(ExecutionPlan, models.CASCADE, related_name="history", verbose_name=_("plan"))
    verb = models.CharField(_("verb"), max_length=32)
    step_number = models.PositiveIntegerField(_("step"), null=True, blank=True)
    actor = models.CharField(_("actor"), max_length=255, blank=True)
    reason = models.TextField(_("reason"), blank=True)
    at = models.DateTimeField(_("at"), default=clock.now)

    objects = LedgerManager.from_queryset(LedgerQuerySet)()

    class Meta:
        verbose_name = _("history entry")
        verbose_name_plural = _("history entries")
        ordering = ("id",)

    def __str__(self) -> str:
        return f"{self.verb} by {self.actor or 'the system'}"
