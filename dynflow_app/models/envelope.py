"""Envelopes: durable messages to the orchestrator, deleted in the transaction that acts on them.

A timer is an envelope that is due later; it survives whatever is stopped in between.
"""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from dynflow_app import clock
from dynflow_app.messages import EnvelopeKind
from dynflow_app.models.base import LedgerManager, LedgerQuerySet
from dynflow_app.models.execution_plan import ExecutionPlan


class EnvelopeQuerySet(LedgerQuerySet["Envelope"]):
    """The orchestrator's inbox."""

    def due(self) -> EnvelopeQuerySet:
        """Envelopes whose time has come, by the database's clock, the longest due first."""
        return self.filter(due_at__lte=Now()).order_by("due_at", "id")

    def take(self, limit: int) -> list[Envelope]:
        """The first `limit` of these, locked until the transaction ends; those locked by others are left out."""
        return list(self.select_for_update(skip_locked=True, of=("self",))[:limit])


class Envelope(models.Model):
    """Something about a plan that the orchestrator has to decide."""

    id = models.BigAutoField(primary_key=True)
    kind = models.CharField(_("kind"), max_length=16, choices=[(kind.value, kind.value) for kind in EnvelopeKind])
    plan = models.ForeignKey(ExecutionPlan, models.CASCADE, related_name="envelopes", verbose_name=_("plan"))
    created_at = models.DateTimeField(_("created at"), default=clock.now)
    due_at = models.DateTimeField(_("due at"), db_default=Now())

    objects = LedgerManager.from_queryset(EnvelopeQuerySet)()

    class Meta:
        verbose_name = _("envelope")
        verbose_name_plural = _("envelopes")
        ordering = ("id",)
        indexes = (models.Index(fields=("due_at", "id"), name="dynflow_envelope_to_read"),)

    def __str__(self) -> str:
        return f"{self.kind}: plan {self.plan_id}"
