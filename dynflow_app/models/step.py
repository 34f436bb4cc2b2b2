"""Steps: one phase of one action, the unit that a worker claims; and the history of their attempts."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from dynflow_app.messages import EndedAs
from dynflow_app.models.action import Action
from dynflow_app.models.base import LedgerManager, LedgerQuerySet
from dynflow_app.models.execution_plan import ExecutionPlan
from dynflow_app.models.gate import Gate
from dynflow_app.states import (
    ACTIVE_STEP_STATES,
    COUNTED_PHASES,
    STEP_TRANSITIONS,
    Alarm,
    Cause,
    Phase,
    Rescue,
    StepState,
    StopRequest,
)


class StepQuerySet(LedgerQuerySet["Step"]):
    """Steps in bulk. Verbs that end or begin a step's wait for a worker stand in `ledger.steps`: they see to its
    ticket, too."""

    transitions = STEP_TRANSITIONS

    def active(self) -> StepQuerySet:
        """Steps that occupy a worker, or soon will."""
        return self.filter(state__in=ACTIVE_STEP_STATES)

    def in_error(self) -> StepQuerySet:
        """Failed steps that the result of their plan depends on. Found by a small index: such steps have an error."""
        return self.filter(error__isnull=False, state=StepState.ERROR, phase__in=COUNTED_PHASES)

    def begin_skipping(self) -> int:
        """Failed steps are given up as soon as their actions have been asked. They count as active from then on."""
        return self._move([StepState.ERROR], StepState.SKIPPING, rescue=Rescue.SKIP, ended_at=None)

    def keep_after_all(self, error: Any) -> int:
        """Steps whose action raised `error` when it was asked about their skip are failed again, for a person."""
        return self._move([StepState.SKIPPING], StepState.ERROR, error=error, rescue=Rescue.PAUSE, ended_at=Now())

    def stop_skipping(self) -> int:
        """Their plan is halted: steps that were about to be skipped stay failed."""
        return self._move([StepState.SKIPPING], StepState.ERROR, ended_at=Now())

    def skip(self) -> int:
        """Give up what has not begun, or has failed."""
        return self._move([StepState.PENDING, StepState.ERROR, StepState.SKIPPING], StepState.SKIPPED, ended_at=Now())

    def cancel_unbegun(self) -> int:
        """Cancel what has not begun, or has failed."""
        return self._move([StepState.PENDING, StepState.ERROR], StepState.CANCELLED, ended_at=Now())

    def cancel_waiting(self) -> int:
        """Cancel suspended steps, and those about to be skipped; none of them has a ticket."""
        return self._move([StepState.SUSPENDED, StepState.SKIPPING], StepState.CANCELLED, ended_at=Now(), **NO_WAIT)

    def start_over(self) -> int:
        """Failed steps wait to run again, with all their tries."""
        return self._move(
            [StepState.ERROR],
            StepState.PENDING,
            worker="",
            ended_at=None,
            failures=0,
            rescue=Rescue.UNDECIDED,
            stop_request=StopRequest.NONE,
            deadline_at=None,
            progress=0.0,
        )


class Step(models.Model):
    """One phase of one action. ``attempt`` is the fence: an outcome counts only with the current number."""

    id = models.BigAutoField(primary_key=True)
    plan = models.ForeignKey(
        ExecutionPlan,
        models.CASCADE,
        related_name="steps",
        db_index=False,
        db_constraint=False,
        verbose_name=_("plan"),
    )
    action = models.ForeignKey(
        Action, models.CASCADE, related_name="steps", db_index=False, db_constraint=False, verbose_name=_("action")
    )
    number = models.PositiveIntegerField(_("number"))
    phase = models.CharField(_("phase"), max_length=16, choices=Phase.choices)
    state = models.CharField(_("state"), max_length=16, choices=StepState.choices, default=StepState.PENDING)
    queue = models.CharField(_("queue"), max_length=100)
    priority = models.SmallIntegerField(_("priority"), default=0)
    attempt = models.PositiveIntegerField(_("attempt"), default=0)
    worker = models.CharField(
        _("worker"), max_length=300, blank=True, help_text=_("The process that runs it, or ran it last.")
    )
    gate = models.ForeignKey(
        Gate,
        models.RESTRICT,
        null=True,
        blank=True,
        related_name="steps",
        db_index=False,
        db_constraint=False,
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
    slot = models.CharField(
        _("slot"),
        max_length=255,
        null=True,
        blank=True,
        help_text=_("The limit of which it takes a place, from its admission to its end."),
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
                condition=~models.Q(state="running") | models.Q(attempt__gt=0), name="dynflow_step_running_has_attempt"
            ),
        )
        # None of these may name the state, or anything else that claim and record change of every step, neither as a
        # column nor in a condition: then PostgreSQL updates steps in place (HOT), without touching any index.
        indexes = (
            models.Index(fields=("alarm_at",), name="dynflow_step_to_wake", condition=models.Q(alarm_at__isnull=False)),
            models.Index(fields=("slot",), name="dynflow_step_to_admit", condition=models.Q(slot__isnull=False)),
            models.Index(fields=("gate",), name="dynflow_step_to_release", condition=models.Q(gate__isnull=False)),
            models.Index(fields=("plan",), name="dynflow_step_to_rescue", condition=models.Q(error__isnull=False)),
        )

    def __str__(self) -> str:
        return f"step {self.number} ({self.phase})"

    @property
    def is_first_success(self) -> bool:
        """Whether its only attempt succeeded. What a row of `Attempt` would say of it stands here."""
        return self.state == StepState.SUCCESS and self.attempt == 1


NO_WAIT: dict[str, Any] = {"alarm": Alarm.NONE, "alarm_at": None, "deadline_at": None, "slot": None}
"""What goes when a step waits for nothing any more."""


class Attempt(models.Model):
    """What one attempt of a step did. Written when it ended; the attempt under way is on the step itself, and so is a
    first one that succeeded, which has no row here: see `Step.is_first_success`."""

    id = models.BigAutoField(primary_key=True)
    step = models.ForeignKey(
        Step,
        models.CASCADE,
        related_name="attempts",
        db_index=False,
        db_constraint=False,
        verbose_name=_("step"),
    )
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
        constraints = (models.UniqueConstraint(fields=("step", "number"), name="dynflow_attempt_number"),)

    def __str__(self) -> str:
        return f"attempt {self.number}: {self.ended_as}"
