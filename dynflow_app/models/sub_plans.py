"""Sub-plans of a step, counted."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from dynflow_app.models.base import LedgerManager, LedgerQuerySet
from dynflow_app.models.step import Step


class SubPlans(models.Model):
    """How far a step has come with its sub-plans. Its row lock serialises making them and their coming to rest."""

    step = models.OneToOneField(
        Step, models.CASCADE, primary_key=True, related_name="sub_plans", verbose_name=_("step")
    )
    total = models.PositiveIntegerField(_("total"))
    made = models.PositiveIntegerField(_("made"), default=0)
    success = models.PositiveIntegerField(_("success"), default=0)
    warning = models.PositiveIntegerField(_("warning"), default=0)
    error = models.PositiveIntegerField(_("error"), default=0)
    cancelled = models.PositiveIntegerField(_("cancelled"), default=0)
    round = models.PositiveSmallIntegerField(
        _("round"), default=0, help_text=_("Grows when the step is resumed: sub-plans that failed have another try.")
    )
    wakes_below = models.PositiveIntegerField(
        _("wakes below"), null=True, blank=True, help_text=_("The step goes on when fewer sub-plans than this move.")
    )

    objects = LedgerManager.from_queryset(LedgerQuerySet)()

    class Meta:
        verbose_name = _("sub-plans")
        verbose_name_plural = _("sub-plans")
        indexes = (
            models.Index(
                fields=("step",), name="dynflow_sub_plans_awaited", condition=models.Q(wakes_below__isnull=False)
            ),
        )

    def __str__(self) -> str:
        return f"{self.ended} of {self.total} sub-plans ended"

    @property
    def ended(self) -> int:
        """How many have stopped."""
        return self.success + self.warning + self.error + self.cancelled

    @property
    def unfinished(self) -> int:
        """How many were made and have not stopped; those that are paused included."""
        return self.made - self.ended
