"""Tables of a project that refer to plans."""

from __future__ import annotations

from django.db import models

from dynflow_app.models import ExecutionPlan, Step


class Bill(models.Model):
    """Protects its plan."""

    plan = models.ForeignKey(ExecutionPlan, models.PROTECT, related_name="+")

    def __str__(self) -> str:
        return f"bill {self.pk}"


class Note(models.Model):
    """Goes with the step that it is about."""

    step = models.ForeignKey(Step, models.CASCADE)

    def __str__(self) -> str:
        return f"note {self.pk}"


class Server(models.Model):
    """Outlives the plan that installed it."""

    installed_by = models.ForeignKey(ExecutionPlan, models.SET_NULL, null=True)

    def __str__(self) -> str:
        return f"server {self.pk}"
