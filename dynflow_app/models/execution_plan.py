"""Plans: everything that follows from one trigger."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from django.db import models, transaction
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from dynflow_app import clock
from dynflow_app.exceptions import DynflowError, WaitTimeoutError
from dynflow_app.models.base import LedgerManager, LedgerQuerySet, uuid7
from dynflow_app.states import LIVE_PLAN_STATES, PLAN_TRANSITIONS, RESTING_PLAN_STATES, MadeAs, PlanResult, PlanState

if TYPE_CHECKING:
    from django.db.models.fields.related_descriptors import RelatedManager

    from dynflow_app.models.action import Action
    from dynflow_app.models.history import HistoryEntry
    from dynflow_app.models.prerequisite import Prerequisite
    from dynflow_app.models.step import Step


class ExecutionPlanQuerySet(LedgerQuerySet["ExecutionPlan"]):
    """Plans in bulk. The verbs change plans that the caller has locked, and return how many were in a state for it."""

    transitions = PLAN_TRANSITIONS

    def live(self) -> ExecutionPlanQuerySet:
        """Plans that have not stopped."""
        return self.exclude(state=PlanState.STOPPED)

    def lock(self) -> ExecutionPlanQuerySet:
        """These plans, locked in the order of their keys until the transaction ends.

        Everything that changes a plan or its steps takes these locks first, so no two of them deadlock.
        """
        return self.select_for_update(no_key=True).order_by("id")

    def begin_planning(self) -> int:
        """A worker plans them now."""
        return self._move([PlanState.SCHEDULED], PlanState.PLANNING, is_waiting=False)

    def end_planning(self, **planned: Any) -> int:
        """A worker has planned them; `planned` holds what their columns are now."""
        return self._move([PlanState.PLANNING], PlanState.PLANNED, **planned)

    def start(self) -> int:
        """Their steps may run."""
        return self._move(
            [PlanState.PLANNED],
            PlanState.RUNNING,
            started_at=Now(),
            is_waiting=False,
            revision=models.F("revision") + 1,
        )

    def pause(self, result: PlanResult) -> int:
        """They wait for a person."""
        return self._move([PlanState.RUNNING], PlanState.PAUSED, result=result, revision=models.F("revision") + 1)

    def resume(self, **fields: Any) -> int:
        """They go on, with further `fields`."""
        return self._move([PlanState.PAUSED], PlanState.RUNNING, result=PlanResult.PENDING, **fields)

    def stop(self, result: PlanResult, frm: Collection[PlanState] = LIVE_PLAN_STATES) -> int:
        """They have ended, and never change again. None of their steps may be active."""
        return self._move(frm, PlanState.STOPPED, result=result, ended_at=Now(), revision=models.F("revision") + 1)


class ExecutionPlan(models.Model):
    """Everything that follows from one trigger. Its result is derived from the states of its steps."""

    if TYPE_CHECKING:
        actions: RelatedManager[Action]
        steps: RelatedManager[Step]
        history: RelatedManager[HistoryEntry]
        prerequisites: RelatedManager[Prerequisite]

    id = models.UUIDField(_("id"), primary_key=True, default=uuid7, editable=False)
    label = models.CharField(_("label"), max_length=255, blank=True)
    action = models.CharField(_("entry action"), max_length=255)
    state = models.CharField(_("state"), max_length=16, choices=PlanState.choices, default=PlanState.PENDING)
    result = models.CharField(_("result"), max_length=16, choices=PlanResult.choices, default=PlanResult.PENDING)
    active_steps = models.IntegerField(
        _("active steps"), default=0, help_text=_("Steps that are ready, running or suspended.")
    )
    queue = models.CharField(_("queue"), max_length=100, blank=True, help_text=_("Of its entry action."))
    fail_fast = models.BooleanField(
        _("fail fast"), default=False, help_text=_("Whether no step starts any more once one has failed.")
    )
    has_finalize = models.BooleanField(_("has finalize"), default=False, help_text=_("Whether it has finalize steps."))
    is_frozen = models.BooleanField(_("is frozen"), default=False, help_text=_("Whether it must not start yet."))
    hooks = models.JSONField(
        _("hooks"), default=list, blank=True, help_text=_("Numbers of the actions that have hooks.")
    )
    made_from = models.ForeignKey(
        "self",
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="derived",
        db_index=False,
        verbose_name=_("made from"),
    )
    made_as = models.CharField(_("made as"), max_length=8, blank=True, choices=MadeAs.choices)
    start_at = models.DateTimeField(
        _("start at"), null=True, blank=True, help_text=_("When it starts, at the earliest.")
    )
    start_before = models.DateTimeField(
        _("start before"), null=True, blank=True, help_text=_("After that it is too late to start.")
    )
    is_waiting = models.BooleanField(
        _("is waiting"), default=False, help_text=_("Whether it may start as soon as other plans allow it.")
    )
    fairness_key = models.CharField(
        _("fairness key"),
        max_length=255,
        blank=True,
        help_text=_("Plans with the same one share their turns in a queue; empty for the plan's own."),
    )
    fairness_weight = models.FloatField(
        _("fairness weight"), default=1.0, help_text=_("How many turns it gets for each one of others.")
    )
    has_locks = models.BooleanField(
        _("has locks"), default=False, help_text=_("Whether it asked for resources when it was planned.")
    )
    parent_step = models.ForeignKey(
        "dynflow_app.Step",
        models.CASCADE,
        null=True,
        blank=True,
        related_name="children",
        db_index=False,
        db_constraint=False,
        verbose_name=_("parent step"),
        help_text=_("The step whose sub-plan it is."),
    )
    position = models.PositiveIntegerField(
        _("position"),
        null=True,
        blank=True,
        help_text=_("Among its siblings, from 0; empty once another plan has taken its place."),
    )
    round = models.PositiveSmallIntegerField(
        _("round"), default=0, help_text=_("In which round of its parent it was made, or resumed.")
    )
    schedule = models.ForeignKey(
        "dynflow_app.Schedule",
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="plans",
        db_index=False,
        verbose_name=_("schedule"),
        help_text=_("Which made it."),
    )
    singleton = models.CharField(
        _("singleton"), max_length=255, null=True, blank=True, help_text=_("Only one plan with this may be active.")
    )
    priority = models.SmallIntegerField(_("priority"), default=0)
    tags = models.JSONField(_("tags"), default=list, blank=True)
    idempotency_key = models.CharField(_("idempotency key"), max_length=255, null=True, blank=True)
    triggered_by = models.CharField(_("triggered by"), max_length=255, blank=True)
    error = models.JSONField(_("error"), null=True, blank=True)
    revision = models.PositiveIntegerField(_("revision"), default=0)
    created_at = models.DateTimeField(_("created at"), default=clock.now)
    started_at = models.DateTimeField(_("started at"), null=True, blank=True)
    ended_at = models.DateTimeField(_("ended at"), null=True, blank=True)

    objects = LedgerManager.from_queryset(ExecutionPlanQuerySet)()

    class Meta:
        verbose_name = _("execution plan")
        verbose_name_plural = _("execution plans")
        ordering = ("-created_at", "-id")
        indexes = (
            models.Index(fields=("-created_at", "-id"), name="dynflow_plan_to_list"),
            models.Index(
                fields=("action", "-created_at", "-id"),
                name="dynflow_plan_to_learn_from",
                condition=models.Q(state="stopped"),
            ),
            models.Index(
                fields=("made_from",), name="dynflow_plan_derived", condition=models.Q(made_from__isnull=False)
            ),
            models.Index(
                fields=("-created_at", "-id"),
                name="dynflow_plan_top_level",
                condition=models.Q(parent_step__isnull=True),
            ),
            models.Index(
                fields=("ended_at", "id", "action"),
                name="dynflow_plan_to_clean_up",
                condition=models.Q(state="stopped", parent_step__isnull=True),
            ),
            models.Index(
                fields=("schedule",),
                name="dynflow_plan_of_schedule",
                condition=models.Q(schedule__isnull=False) & ~models.Q(state="stopped"),
            ),
            # What moves: looked through by sweeps, and by parents for those of their sub-plans that have not stopped.
            models.Index(fields=("parent_step",), name="dynflow_plan_live", condition=~models.Q(state="stopped")),
        )
        constraints = (
            models.UniqueConstraint(
                fields=("parent_step", "position"),
                condition=models.Q(parent_step__isnull=False),
                name="dynflow_plan_child",
            ),
            models.UniqueConstraint(
                fields=("singleton",),
                condition=models.Q(singleton__isnull=False, state__in=("planning", "planned", "running")),
                name="dynflow_plan_singleton",
            ),
            models.UniqueConstraint(
                fields=("idempotency_key",),
                condition=models.Q(idempotency_key__isnull=False),
                name="dynflow_plan_idempotency_key",
            ),
            models.CheckConstraint(condition=models.Q(active_steps__gte=0), name="dynflow_plan_active_steps"),
            models.CheckConstraint(condition=models.Q(fairness_weight__gt=0), name="dynflow_plan_fairness_weight"),
            models.CheckConstraint(
                condition=~models.Q(state="stopped")
                | models.Q(ended_at__isnull=False, active_steps=0) & ~models.Q(result="pending"),
                name="dynflow_plan_stopped_is_over",
            ),
        )

    def __str__(self) -> str:
        return self.label or f"{self.action.rpartition('.')[2]} {str(self.id)[:13]}"

    def as_failed(self, error: dict[str, Any]) -> ExecutionPlan:
        """Itself, not stored yet, as a plan that could not be planned."""
        self.state, self.result, self.error = PlanState.STOPPED, PlanResult.ERROR, error
        self.ended_at = clock.now()
        self.idempotency_key = None  # the caller may try again with the same key
        return self

    @property
    def is_stopped(self) -> bool:
        """Whether nothing will change any more."""
        return self.state == PlanState.STOPPED

    def wait(self, timeout: float | None = None) -> ExecutionPlan:
        """Block until the plan stops or pauses, at most `timeout` seconds; refreshes and returns itself.

        Raises `WaitTimeoutError` after that time, and `DynflowError` inside a transaction, where the plan cannot
        start before the commit.
        """
        if transaction.get_connection(self._state.db).in_atomic_block:
            raise DynflowError(
                "wait() inside a transaction would wait for ever: the plan starts after the commit. "
                "Call it after the atomic block."
            )
        deadline = None if timeout is None else clock.monotonic() + timeout
        pause = 0.002
        while True:
            self.refresh_from_db()
            if self.state in RESTING_PLAN_STATES:
                return self
            if deadline is not None and clock.monotonic() >= deadline:
                raise WaitTimeoutError(
                    f"Plan {self.id} is still {self.state} after {timeout} s. It goes on; look at it in the admin, "
                    "and check that an orchestrator and workers for its queues are running.",
                    plan_id=self.id,
                )
            time.sleep(pause)
            pause = min(pause * 1.3, 0.2)
