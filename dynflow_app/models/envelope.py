"""Envelopes: durable messages to the orchestrator, deleted in the transaction that acts on them."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from dynflow_app import clock
from dynflow_app.messages import EnvelopeKind
from dynflow_app.models.base import LedgerManager, LedgerQuerySet
from dynflow_app.models.execution_plan import ExecutionPlan


class EnvelopeQuerySet(LedgerQuerySet["Envelope"]):
    """The orchestrator's inbox."""

    def oldest(self, limit: int) -> list[Envelope]:
        """The first `limit` envelopes, locked until the transaction ends; those locked by others are left out."""
        return list(self.select_for_update(skip_locked=True, of=("self",)).order_by("id")[:limit])


class Envelope(models.Model):
    """Something about a plan that the orchestrator has to decide."""

    id = models.BigAutoField(primary_key=True)
    kind = models.CharField(_("kind"), max_length=16, choices=[(kind.value, kind.value) for kind in EnvelopeKind])
    plan = models.ForeignKey(ExecutionPlan, models.CASCADE, related_name="envelopes", verbose_name=_("plan"))
    created_at = models.DateTimeField(_("created at"), default=clock.now)

    objects = LedgerManager.from_queryset(EnvelopeQuerySet)()

    class Meta:
        verbose_name = _("envelope")
        verbose_name_plural = _("envelopes")
        ordering = ("id",)

    def __str__(self) -> str:
        return f"{self.kind}: plan {self.plan_id}"
