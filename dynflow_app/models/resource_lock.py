"""Resource locks and links: what a plan wants for itself, and what it is about.

Only the orchestrator grants and unlocks; the rows stay as history. The *place* is common to all locks of a plan, so
two plans never wait for each other's locks: whoever waits, waits for holders and for smaller places.
"""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from dynflow_app import clock
from dynflow_app.exceptions import PlanningError
from dynflow_app.models.base import LedgerManager, LedgerQuerySet
from dynflow_app.models.execution_plan import ExecutionPlan
from dynflow_app.states import LOCK_TRANSITIONS, LockState, OnConflict

LONGEST_RESOURCE = 255
TEXT = "text:"


def resource_key(resource: object) -> str:
    """What the ledger calls a resource: a stored model instance, or text. Raises `PlanningError` for anything else."""
    if isinstance(resource, str):
        if not resource.strip() or "\0" in resource:
            raise PlanningError(f"{resource!r} names no resource; use text with something in it, and no NUL.")
        key = TEXT + resource
    elif isinstance(resource, models.Model):
        if resource._state.adding or resource.pk is None:
            name = type(resource).__name__
            raise PlanningError(f"This {name} was not saved yet, so nobody else can mean it. Save it first.")
        model = resource._meta.concrete_model or type(resource)
        key = f"{model._meta.label_lower}:{resource.pk}"
    else:
        raise PlanningError(f"A resource is a model instance or text, not {resource!r}.")
    if len(key) > LONGEST_RESOURCE:
        raise PlanningError(f"The resource {key[:40]}… has {len(key)} characters; at most {LONGEST_RESOURCE} are kept.")
    return key


class ResourceLockQuerySet(LedgerQuerySet["ResourceLock"]):
    """Locks in bulk."""

    transitions = LOCK_TRANSITIONS

    def hold(self) -> int:
        """Those in line are granted."""
        return self._move([LockState.WAITING], LockState.HELD, held_at=Now())

    def live(self) -> ResourceLockQuerySet:
        """Those that are not unlocked: asked for, in line, or held."""
        return self.exclude(state=LockState.UNLOCKED)

    def in_line(self) -> ResourceLockQuerySet:
        """Holders, then those who wait, the first in line first."""
        found = self.filter(state__in=(LockState.HELD, LockState.WAITING))
        return found.order_by(models.Case(models.When(state=LockState.HELD, then=0), default=1), "place", "id")


class ResourceLock(models.Model):
    """One plan's claim to one resource, until it is unlocked."""

    id = models.BigAutoField(primary_key=True)
    plan = models.ForeignKey(
        ExecutionPlan, models.CASCADE, related_name="locks", db_index=False, verbose_name=_("plan")
    )
    resource = models.CharField(_("resource"), max_length=LONGEST_RESOURCE)
    is_shared = models.BooleanField(_("is shared"), default=False)
    on_conflict = models.CharField(_("on conflict"), max_length=8, choices=OnConflict.choices, default=OnConflict.WAIT)
    state = models.CharField(_("state"), max_length=16, choices=LockState.choices, default=LockState.REQUESTED)
    place = models.BigIntegerField(
        _("place"), null=True, blank=True, help_text=_("In line; the same for all locks of a plan.")
    )
    lane = models.BigIntegerField(
        _("lane"), default=0, help_text=_("Of a sub-plan that passes the line: the parent step.")
    )
    is_unlock_requested = models.BooleanField(_("is unlock requested"), default=False)
    reason = models.TextField(_("reason"), blank=True, help_text=_("Why it was unlocked."))
    created_at = models.DateTimeField(_("created at"), default=clock.now)
    queued_at = models.DateTimeField(_("queued at"), null=True, blank=True)
    held_at = models.DateTimeField(_("held at"), null=True, blank=True)
    unlocked_at = models.DateTimeField(_("unlocked at"), null=True, blank=True)

    objects = LedgerManager.from_queryset(ResourceLockQuerySet)()

    class Meta:
        verbose_name = _("resource lock")
        verbose_name_plural = _("resource locks")
        ordering = ("id",)
        indexes = (
            models.Index(
                fields=("resource", "state", "is_shared", "place"),
                name="dynflow_lock_line",
                condition=models.Q(state__in=("waiting", "held")),
            ),
            models.Index(fields=("place",), name="dynflow_lock_place", condition=models.Q(place__isnull=False)),
        )
        constraints = (
            models.UniqueConstraint(fields=("plan", "resource"), name="dynflow_lock_once"),
            models.CheckConstraint(
                condition=~models.Q(state__in=("waiting", "held")) | models.Q(place__isnull=False),
                name="dynflow_lock_has_place",
            ),
        )

    def __str__(self) -> str:
        return f"{self.name} ({'shared' if self.is_shared else 'exclusive'}, {self.state})"

    @property
    def name(self) -> str:
        """The resource as people call it."""
        return shown(self.resource)


class ResourceLink(models.Model):
    """That a plan is about something, without keeping others from it."""

    id = models.BigAutoField(primary_key=True)
    plan = models.ForeignKey(
        ExecutionPlan, models.CASCADE, related_name="links", db_index=False, verbose_name=_("plan")
    )
    resource = models.CharField(_("resource"), max_length=LONGEST_RESOURCE)

    objects = LedgerManager.from_queryset(LedgerQuerySet)()

    class Meta:
        verbose_name = _("resource link")
        verbose_name_plural = _("resource links")
        ordering = ("id",)
        indexes = (models.Index(fields=("resource", "plan"), name="dynflow_link_to_find"),)
        constraints = (models.UniqueConstraint(fields=("plan", "resource"), name="dynflow_link_once"),)

    def __str__(self) -> str:
        return self.name

    @property
    def name(self) -> str:
        """The resource as people call it."""
        return shown(self.resource)


def shown(resource: str) -> str:
    """A resource as people call it: ``auth.group 7``, or the text in quotes."""
    if resource.startswith(TEXT):
        return repr(resource.removeprefix(TEXT))
    label, _colon, key = resource.partition(":")
    return f"{label} {key}"
