"""Actions: planned uses of action classes, and what their attempts wrote on the way."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models import Sum, Window
from django.db.models.functions import Length
from django.utils.translation import gettext_lazy as _

from dynflow_app import clock
from dynflow_app.models.base import LedgerManager, LedgerQuerySet
from dynflow_app.models.execution_plan import ExecutionPlan

MOST_CHUNKS = 1000


class Action(models.Model):
    """One planned use of an action class in one plan; owns input and output."""

    id = models.BigAutoField(primary_key=True)
    plan = models.ForeignKey(
        ExecutionPlan,
        models.CASCADE,
        related_name="actions",
        db_index=False,
        db_constraint=False,
        verbose_name=_("plan"),
    )
    number = models.PositiveIntegerField(_("number"))
    name = models.CharField(_("class"), max_length=255)
    caller_number = models.PositiveIntegerField(
        _("planned by"), null=True, blank=True, help_text=_("Number of the action that planned this one.")
    )
    input = models.JSONField(_("input"), default=dict, blank=True)
    planned_input = models.JSONField(
        _("planned input"),
        null=True,
        blank=True,
        help_text=_("The input before its references were replaced by values; empty if it had none."),
    )
    output = models.JSONField(_("output"), default=dict, blank=True)
    consumes = models.JSONField(
        _("consumes"),
        default=list,
        blank=True,
        help_text=_("Numbers of the actions whose output its input refers to."),
    )

    objects = LedgerManager.from_queryset(LedgerQuerySet)()

    class Meta:
        verbose_name = _("action")
        verbose_name_plural = _("actions")
        ordering = ("plan", "number")
        constraints = (models.UniqueConstraint(fields=("plan", "number"), name="dynflow_action_number"),)

    def __str__(self) -> str:
        return f"{self.number}: {self.class_name}"

    @property
    def class_name(self) -> str:
        """The class without its module."""
        return self.name.rpartition(".")[2]


class OutputChunkQuerySet(LedgerQuerySet["OutputChunk"]):
    """Output of actions."""

    def tail(self, characters: int, *fields: str) -> list[dict[str, Any]]:
        """The newest `characters` of this output, oldest first, as dictionaries of ``text`` and `fields`. One query.

        Looks at the newest `MOST_CHUNKS` chunks only, so it is bounded whatever was logged.
        """
        newest = self.order_by("-id").values("id")[:MOST_CHUNKS]
        length = Length("text")
        rows = (
            OutputChunk.objects.filter(id__in=newest)
            .annotate(newer=Window(Sum(length), order_by=models.F("id").desc()) - length)
            .filter(newer__lt=characters)
            .order_by("-id")
            .values("text", "newer", *fields)
        )
        chunks: list[dict[str, Any]] = [dict(row) for row in rows][::-1]
        if chunks:
            chunks[0]["text"] = chunks[0]["text"][-(characters - chunks[0]["newer"]) :]
        return chunks


class OutputChunk(models.Model):
    """A piece of an action's log, appended while its step runs."""

    id = models.BigAutoField(primary_key=True)
    action = models.ForeignKey(
        Action, models.CASCADE, related_name="chunks", db_constraint=False, verbose_name=_("action")
    )
    attempt = models.PositiveIntegerField(_("attempt"))
    text = models.TextField(_("text"))
    created_at = models.DateTimeField(_("created at"), default=clock.now)

    objects = LedgerManager.from_queryset(OutputChunkQuerySet)()

    class Meta:
        verbose_name = _("output chunk")
        verbose_name_plural = _("output chunks")
        ordering = ("id",)

    def __str__(self) -> str:
        return self.text[:80]
