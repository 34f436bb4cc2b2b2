"""Limits: how many steps that share a key may run at once, and how many may start per time."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from dynflow_app import clock
from dynflow_app.models.base import LedgerManager, LedgerQuerySet


class Limit(models.Model):
    """One key with its limits, as last planned. Its row lock serialises admissions."""

    key = models.CharField(_("key"), max_length=255, primary_key=True)
    most = models.PositiveIntegerField(_("at once"), null=True, blank=True)
    starts = models.PositiveIntegerField(_("starts"), null=True, blank=True, help_text=_("Per period."))
    period = models.FloatField(_("period"), null=True, blank=True, help_text=_("In seconds."))
    next_start_at = models.DateTimeField(
        _("next start at"), null=True, blank=True, help_text=_("When the pace of starts allows another one.")
    )
    wakes_at = models.DateTimeField(
        _("wakes at"), null=True, blank=True, help_text=_("When held steps have to be looked at again.")
    )

    declared_at = models.DateTimeField(
        _("declared at"), default=clock.now, help_text=_("When a plan was made with it; exact to a day.")
    )

    objects = LedgerManager.from_queryset(LedgerQuerySet)()

    class Meta:
        verbose_name = _("limit")
        verbose_name_plural = _("limits")
        indexes = (
            models.Index(
                fields=("wakes_at",), name="dynflow_limit_to_wake", condition=models.Q(wakes_at__isnull=False)
            ),
        )

    def __str__(self) -> str:
        return self.key
