"""Gates: what steps wait for. A gate opens when every step and gate it waits for has ended."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from dynflow_app.models.base import LedgerManager, LedgerQuerySet
from dynflow_app.models.execution_plan import ExecutionPlan


class Gate(models.Model):
    """A meeting point in the flow. Steps name the gate they wait behind; zero means open."""

    id = models.BigAutoField(primary_key=True)
    plan = models.ForeignKey(
        ExecutionPlan, models.CASCADE, related_name="gates", db_constraint=False, verbose_name=_("plan")
    )
    waits_for = models.IntegerField(_("waits for"), help_text=_("How many of its dependencies have not ended."))
    is_awaited = models.BooleanField(_("is awaited"), default=False, help_text=_("Whether another gate waits for it."))

    objects = LedgerManager.from_queryset(LedgerQuerySet)()

    class Meta:
        verbose_name = _("gate")
        verbose_name_plural = _("gates")
        constraints = (models.CheckConstraint(condition=models.Q(waits_for__gte=0), name="dynflow_gate_waits_for"),)

    def __str__(self) -> str:
        return f"gate {self.pk}, waits for {self.waits_for}"


class Dependency(models.Model):
    """One thing that a gate waits for: a step, or another gate."""

    id = models.BigAutoField(primary_key=True)
    gate = models.ForeignKey(
        Gate, models.CASCADE, related_name="dependencies", db_index=False, db_constraint=False, verbose_name=_("gate")
    )
    step = models.ForeignKey(
        "dynflow_app.Step",
        models.CASCADE,
        null=True,
        related_name="dependents",
        db_index=False,
        db_constraint=False,
        verbose_name=_("step"),
    )
    after_gate = models.ForeignKey(
        Gate,
        models.CASCADE,
        null=True,
        related_name="dependents",
        db_index=False,
        db_constraint=False,
        verbose_name=_("after gate"),
    )

    objects = LedgerManager.from_queryset(LedgerQuerySet)()

    class Meta:
        verbose_name = _("dependency")
        verbose_name_plural = _("dependencies")
        constraints = (
            models.CheckConstraint(
                condition=models.Q(step__isnull=False, after_gate__isnull=True)
                | models.Q(step__isnull=True, after_gate__isnull=False),
                name="dynflow_dependency_on_one_thing",
            ),
            models.UniqueConstraint(fields=("gate", "step"), name="dynflow_dependency_once_step"),
            models.UniqueConstraint(fields=("gate", "after_gate"), name="dynflow_dependency_once_gate"),
        )
        indexes = (
            models.Index(fields=("step",), name="dynflow_dependency_by_step", condition=models.Q(step__isnull=False)),
            models.Index(
                fields=("after_gate",),
                name="dynflow_dependency_by_gate",
                condition=models.Q(after_gate__isnull=False),
            ),
        )

    def __str__(self) -> str:
        return f"gate {self.gate_id} after {'step' if self.step_id else 'gate'} {self.step_id or self.after_gate_id}"
