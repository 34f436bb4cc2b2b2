"""Events: a step's inbox. Durable, delivered in order, one at a time, each exactly once."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from dynflow_app import clock
from dynflow_app.models.base import LedgerManager, LedgerQuerySet
from dynflow_app.models.step import Step
from dynflow_app.states import EVENT_TRANSITIONS, EventState


class EventQuerySet(LedgerQuerySet["Event"]):
    """Events in bulk."""

    transitions = EVENT_TRANSITIONS

    def waiting(self) -> EventQuerySet:
        """Events that no invocation has handled, in the order of their delivery."""
        return self.filter(state=EventState.WAITING).order_by("due_at", "id")

    def drop(self) -> int:
        """Let go of those that no invocation will handle."""
        return self._move([EventState.WAITING], EventState.DROPPED)


class Event(models.Model):
    """Something sent to a step: it wakes a suspended one, and waits for a running one to suspend."""

    id = models.BigAutoField(primary_key=True)
    step = models.ForeignKey(Step, models.CASCADE, related_name="events", db_index=False, verbose_name=_("step"))
    name = models.CharField(_("name"), max_length=100)
    data = models.JSONField(_("data"), null=True, blank=True)
    state = models.CharField(_("state"), max_length=8, choices=EventState.choices, default=EventState.WAITING)
    key = models.CharField(
        _("key"), max_length=100, null=True, blank=True, help_text=_("A second one is not accepted.")
    )
    sent_by = models.CharField(_("sent by"), max_length=255, blank=True)
    sent_at = models.DateTimeField(_("sent at"), default=clock.now)
    due_at = models.DateTimeField(_("due at"), db_default=Now())
    attempt = models.PositiveIntegerField(_("attempt"), null=True, blank=True, help_text=_("Which handled it."))

    objects = LedgerManager.from_queryset(EventQuerySet)()

    class Meta:
        verbose_name = _("event")
        verbose_name_plural = _("events")
        ordering = ("id",)
        indexes = (models.Index(fields=("step", "due_at", "id"), name="dynflow_event_to_deliver"),)
        constraints = (
            models.UniqueConstraint(
                fields=("key",), condition=models.Q(key__isnull=False), name="dynflow_event_once_a_key"
            ),
        )

    def __str__(self) -> str:
        return f"event {self.name}"
