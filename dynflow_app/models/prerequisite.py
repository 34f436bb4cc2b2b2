"""Prerequisites: plans that have to stop before another plan starts."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from dynflow_app.models.base import LedgerManager, LedgerQuerySet
from dynflow_app.models.execution_plan import ExecutionPlan


class Prerequisite(models.Model):
    """One plan that another waits for, and how it has to end."""

    id = models.BigAutoField(primary_key=True)
    plan = models.ForeignKey(ExecutionPlan, models.CASCADE, related_name="prerequisites", verbose_name=_("plan"))
    after = models.ForeignKey(
        ExecutionPlan, models.SET_NULL, null=True, related_name="dependents", verbose_name=_("after")
    )
    accepts = models.JSONField(_("accepts"), help_text=_("Results with which the plan may start."))

    objects = LedgerManager.from_queryset(LedgerQuerySet)()

    class Meta:
        verbose_name = _("prerequisite")
        verbose_name_plural = _("prerequisites")
        constraints = (models.UniqueConstraint(fields=("plan", "after"), name="dynflow_prerequisite_once"),)

    def __str__(self) -> str:
        return f"plan {self.plan_id} after plan {self.after_id}"
