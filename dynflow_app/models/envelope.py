"""Envelopes: durable messages to the orchestrator, deleted in the transaction that acts on them.

A timer is an envelope that is due later; it survives whatever is stopped in between.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import models
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from dynflow_app import clock
from dynflow_app.messages import EnvelopeKind
from dynflow_app.models.base import LedgerManager, LedgerQuerySet
from dynflow_app.models.execution_plan import ExecutionPlan


class EnvelopeQuerySet(LedgerQuerySet["Envelope"]):
    """The orchestrator's inbox."""

    def send(self, kind: EnvelopeKind, plan_ids: Iterable[UUID], due_at: datetime | None = None) -> None:
        """Write one envelope about each of these plans, to be read at `due_at` or now.

        In the caller's transaction, who rings the orchestrator's bell after the commit.
        """
        self.send_each(kind, ((plan_id, due_at) for plan_id in plan_ids))

    def send_each(self, kind: EnvelopeKind, looks: Iterable[tuple[UUID, datetime | None]]) -> None:
        """As `send`, each with its own time."""
        self.bulk_create(
            Envelope(kind=kind.value, plan_id=plan_id, **({} if due_at is None else {"due_at": due_at}))
            for plan_id, due_at in looks
        )

    def tally(self, rows: Iterable[tuple[UUID, int, dict[str, int]]]) -> None:
        """Write down for parents (plan, step) how many of their sub-plans came to rest, by result."""
        kind = EnvelopeKind.SUB_PLANS.value
        self.bulk_create(Envelope(kind=kind, plan_id=plan, step_id=step, payload=ended) for plan, step, ended in rows)

    def due(self) -> EnvelopeQuerySet:
        """Envelopes whose time has come, by the database's clock, the longest due first."""
        return self.filter(due_at__lte=Now()).order_by("due_at", "id")

    def put_off(self, seconds: float) -> int:
        """Read them later; returns how many."""
        return self.update(due_at=Now() + timedelta(seconds=seconds))

    def take(self, limit: int) -> list[Envelope]:
        """The first `limit` of these, locked until the transaction ends; those locked by others are left out."""
        return list(self.select_for_update(skip_locked=True, of=("self",))[:limit])


class Envelope(models.Model):
    """Something about a plan that the orchestrator has to decide."""

    id = models.BigAutoField(primary_key=True)
    kind = models.CharField(_("kind"), max_length=16, choices=[(kind.value, kind.value) for kind in EnvelopeKind])
    plan = models.ForeignKey(
        ExecutionPlan, models.CASCADE, related_name="envelopes", db_constraint=False, verbose_name=_("plan")
    )
    step_id = models.BigIntegerField(_("step"), null=True, blank=True, help_text=_("Which it is about, if one."))
    payload: models.JSONField[Any, Any] = models.JSONField(_("payload"), null=True, blank=True)
    created_at = models.DateTimeField(_("created at"), default=clock.now)
    due_at = models.DateTimeField(_("due at"), db_default=Now())

    objects = LedgerManager.from_queryset(EnvelopeQuerySet)()

    class Meta:
        verbose_name = _("envelope")
        verbose_name_plural = _("envelopes")
        ordering = ("id",)
        indexes = (
            models.Index(fields=("due_at", "id"), name="dynflow_envelope_to_read"),
            models.Index(
                fields=("step_id",), name="dynflow_envelope_of_step", condition=models.Q(step_id__isnull=False)
            ),
        )

    def __str__(self) -> str:
        return f"{self.kind}: plan {self.plan_id}"
