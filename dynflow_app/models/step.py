"""Steps: one phase of one action, the unit that a worker claims; and the history of their attempts."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from dynflow_app.messages import EndedAs
from dynflow_app.models.action import Action
from dynflow_app.models.base import LedgerManager, LedgerQuerySet
from dynflow_app.models.execution_plan import ExecutionPlan
from dynflow_app.models.gate import Gate
from dynflow_app.models.world import World
from dynflow_app.states import ACTIVE_STEP_STATES, Alarm, Cause, Phase, Rescue, StepState, StopRequest


class StepQuerySet(LedgerQuerySet["Step"]):
    """Steps in bulk."""

    def active(self) -> StepQuerySet:
        """Steps that occupy a worker, or soon will."""
        return self.filter(state__in=ACTIVE_STEP_STATES)


class Step(models.Model):
    """One phase of one action. ``attempt`` is the fence: an outcome counts only with the current number."""

    id = models.BigAutoField(primary_key=True)
    plan = models.ForeignKey(
        ExecutionPlan, models.CASCADE, related_name="steps", db_index=False, verbose_name=_("plan")
    )
    action = models.ForeignKey(Action, models.CASCADE, related_name="steps", db_index=False, verbose_name=_("action"))
    number = models.PositiveIntegerField(_("number"))
    phase = models.CharField(_("phase"), max_length=16, choices=Phase.choices)
    state = models.CharField(_("state"), max_length=16, choices=StepState.choices, default=StepState.PENDING)
    queue = models.CharField(_("queue"), max_length=100)
    priority = models.SmallIntegerField(_("priority"), default=0)
    attempt = models.PositiveIntegerField(_("attempt"), default=0)
    world = models.ForeignKey(
        World,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="steps",
        db_index=False,
        verbose_name=_("world"),
    )
    gate = models.ForeignKey(
        Gate,
        models.RESTRICT,
        null=True,
        blank=True,
        related_name="steps",
        db_index=False,
        verbose_name=_("gate"),
    )
    is_awaited = models.BooleanField(_("is awaited"), default=False, help_text=_("Whether a gate waits for it."))
    is_idempotent = models.BooleanField(
        _("is idempotent"), default=False, help_text=_("Whether it may run again after its process vanished.")
    )
    cause = models.CharField(
        _("cause"),
        max_length=8,
        choices=Cause.choices,
        default=Cause.START,
        help_text=_("What its next invocation answers."),
    )
    alarm = models.CharField(_("alarm"), max_length=8, choices=Alarm.choices, default=Alarm.NONE, blank=True)
    alarm_at = models.DateTimeField(_("alarm at"), null=True, blank=True)
    deadline_at = models.DateTimeField(_("deadline"), null=True, blank=True)
    start_timeout = models.FloatField(
        _("start time-out"), null=True, blank=True, help_text=_("Seconds it may wait for a worker.")
    )
    stop_request = models.CharField(
        _("stop request"), max_length=8, choices=StopRequest.choices, default=StopRequest.NONE, blank=True
    )
    rescue = models.CharField(_("rescue"), max_length=8, choices=Rescue.choices, default=Rescue.UNDECIDED, blank=True)
    failures = models.PositiveSmallIntegerField(
        _("failures"), default=0, help_text=_("Tries that failed since it began or was resumed.")
    )
    is_addressed = models.BooleanField(
        _("is addressed"), default=False, help_text=_("Whether an event was ever sent to it.")
    )
    limit_key = models.CharField(_("limit"), max_length=255, null=True, blank=True)
    is_held = models.BooleanField(
        _("is held"), default=False, help_text=_("Whether, though ready, it waits for its limit to let it pass.")
    )
    weight = models.FloatField(_("weight"), default=1.0, help_text=_("Its share of the plan's progress."))
    progress = models.FloatField(_("progress"), default=0.0, help_text=_("From 0 to 1, while it runs or waits."))
    ran_for = models.FloatField(_("ran for"), default=0.0, help_text=_("Seconds in user code, over all attempts."))
    error = models.JSONField(_("error"), null=True, blank=True)
    ready_at = models.DateTimeField(_("ready at"), null=True, blank=True)
    started_at = models.DateTimeField(_("started at"), null=True, blank=True)
    ended_at = models.DateTimeField(_("ended at"), null=True, blank=True)

    objects = LedgerManager.from_queryset(StepQuerySet)()

    class Meta:
        verbose_name = _("step")
        verbose_name_plural = _("steps")
        ordering = ("plan", "number")
        constraints = (
            models.UniqueConstraint(fields=("plan", "number"), name="dynflow_step_number"),
            # Not partial: the foreign key to the action is checked by this index when actions are deleted.
            models.UniqueConstraint(
                "action",
                "phase",
                models.Case(
                    models.When(phase__in=("run", "finalize", "revert"), then=0),
                    default=models.F("number"),
                    output_field=models.PositiveIntegerField(),
                ),
                name="dynflow_step_once_a_phase",
            ),
            models.CheckConstraint(
                condition=~models.Q(state="running") | models.Q(world__isnull=False, attempt__gt=0),
                name="dynflow_step_running_somewhere",
            ),
        )
        indexes = (
            models.Index(
                "queue",
                models.F("priority").desc(),
                "id",
                name="dynflow_step_to_claim",
                condition=models.Q(state="ready", is_held=False),
            ),
            models.Index(fields=("alarm_at",), name="dynflow_step_to_wake", condition=models.Q(alarm_at__isnull=False)),
            models.Index(
                "limit_key",
                models.F("priority").desc(),
                "id",
                name="dynflow_step_held",
                condition=models.Q(state="ready", is_held=True),
            ),
            models.Index(
                fields=("limit_key", "is_held"),
                name="dynflow_step_to_admit",
                condition=models.Q(limit_key__isnull=False, state__in=("ready", "running", "suspended")),
            ),
            models.Index(
                fields=("world",),
                name="dynflow_step_to_stop",
                condition=~models.Q(stop_request="") & models.Q(state="running"),
            ),
            models.Index(fields=("gate",), name="dynflow_step_to_release", condition=models.Q(gate__isnull=False)),
            models.Index(fields=("world",), name="dynflow_step_to_recover", condition=models.Q(state="running")),
            models.Index(fields=("plan",), name="dynflow_step_to_rescue", condition=models.Q(state="error")),
        )

    def __str__(self) -> str:
        return f"step {self.number} ({self.phase})"


class Attempt(models.Model):
    """What one attempt of a step did. Written when it ended; the attempt under way is on the step itself."""

    id = models.BigAutoField(primary_key=True)
    step = models.ForeignKey(Step, models.CASCADE, related_name="attempts", db_index=False, verbose_name=_("step"))
    number = models.PositiveIntegerField(_("number"))
    ended_as = models.CharField(_("ended as"), max_length=16, choices=[(kind.value, kind.value) for kind in EndedAs])
    worker = models.CharField(_("worker"), max_length=300)
    error = models.JSONField(_("error"), null=True, blank=True)
    started_at = models.DateTimeField(_("started at"))
    ended_at = models.DateTimeField(_("ended at"))

    objects = LedgerManager.from_queryset(LedgerQuerySet)()

    class Meta:
        verbose_name = _("attempt")
        verbose_name_plural = _("attempts")
        ordering = ("step", "number")
        constraints = (
            models.UniqueConstraint(fields=("step", "number"), name="dynflow_attempt_number"),
            models.UniqueConstraint(
                fields=("step",),
                condition=models.Q(ended_as="succeeded"),
                name="dynflow_attempt_succeeds_once",
            ),
        )

    def __str__(self) -> str:
        return f"attempt {self.number}: {self.ended_as}"
