"""States of plans and steps as data: enums, sets and the tables of allowed transitions.

Guarded updates, the admin and the API read these tables; nothing else knows which change is legal.
"""

from __future__ import annotations

from django.db.models import TextChoices
from django.utils.translation import gettext_lazy as _


class Phase(TextChoices):
    """Part of an action's life. Only run and finalize are steps; the plan phase belongs to the trigger."""

    PLAN = "plan", _("plan")
    RUN = "run", _("run")
    FINALIZE = "finalize", _("finalize")


class PlanState(TextChoices):
    """Where in its life a plan is."""

    PENDING = "pending", _("pending")
    SCHEDULED = "scheduled", _("scheduled")
    PLANNING = "planning", _("planning")
    PLANNED = "planned", _("planned")
    RUNNING = "running", _("running")
    PAUSED = "paused", _("paused")
    STOPPED = "stopped", _("stopped")


class PlanResult(TextChoices):
    """How a plan ended; pending until it is known."""

    PENDING = "pending", _("pending")
    SUCCESS = "success", _("success")
    WARNING = "warning", _("warning")
    ERROR = "error", _("error")
    CANCELLED = "cancelled", _("cancelled")


class StepState(TextChoices):
    """Where in its life a step is.

    A step is *ready* once everything it waits for has ended; a worker takes it from there (*running*).
    A worker that dies leaves it *running* until its world is invalidated.
    """

    PENDING = "pending", _("pending")
    READY = "ready", _("ready")
    RUNNING = "running", _("running")
    SUSPENDED = "suspended", _("suspended")
    SUCCESS = "success", _("success")
    SKIPPING = "skipping", _("skipping")
    SKIPPED = "skipped", _("skipped")
    ERROR = "error", _("error")
    CANCELLED = "cancelled", _("cancelled")


class WorldState(TextChoices):
    """Whether a process may claim steps, or was declared dead."""

    ACTIVE = "active", _("active")
    INVALIDATED = "invalidated", _("invalidated")


#: Steps that occupy a worker, or soon will: they count in ``ExecutionPlan.active_steps``.
ACTIVE_STEP_STATES = frozenset({StepState.READY, StepState.RUNNING, StepState.SUSPENDED, StepState.SKIPPING})
#: Steps that never change again; what waits for them may go on (except after *cancelled*).
TERMINAL_STEP_STATES = frozenset({StepState.SUCCESS, StepState.SKIPPED, StepState.CANCELLED})
#: Plans an operator or a process may still change.
LIVE_PLAN_STATES = frozenset(PlanState) - {PlanState.STOPPED}

PLAN_TRANSITIONS: dict[PlanState, frozenset[PlanState]] = {
    PlanState.PENDING: frozenset({PlanState.SCHEDULED, PlanState.PLANNING, PlanState.STOPPED}),
    PlanState.SCHEDULED: frozenset({PlanState.PLANNING, PlanState.STOPPED}),
    PlanState.PLANNING: frozenset({PlanState.PLANNED, PlanState.STOPPED}),
    PlanState.PLANNED: frozenset({PlanState.RUNNING, PlanState.STOPPED}),
    PlanState.RUNNING: frozenset({PlanState.PAUSED, PlanState.STOPPED}),
    PlanState.PAUSED: frozenset({PlanState.RUNNING, PlanState.STOPPED}),
    PlanState.STOPPED: frozenset(),
}

STEP_TRANSITIONS: dict[StepState, frozenset[StepState]] = {
    StepState.PENDING: frozenset({StepState.READY, StepState.RUNNING, StepState.SKIPPED, StepState.CANCELLED}),
    StepState.READY: frozenset({StepState.RUNNING, StepState.PENDING, StepState.SKIPPED, StepState.CANCELLED}),
    StepState.RUNNING: frozenset(
        {
            StepState.SUCCESS,
            StepState.ERROR,
            StepState.SUSPENDED,
            StepState.CANCELLED,
            StepState.READY,  # handed back before it started, or lost and safe to repeat
            StepState.PENDING,  # rolled back together with its finalize phase
        }
    ),
    StepState.SUSPENDED: frozenset({StepState.READY, StepState.ERROR, StepState.CANCELLED}),
    StepState.ERROR: frozenset({StepState.PENDING, StepState.SKIPPING, StepState.SKIPPED, StepState.CANCELLED}),
    StepState.SKIPPING: frozenset({StepState.SKIPPED, StepState.ERROR}),
    StepState.SUCCESS: frozenset(),
    StepState.SKIPPED: frozenset(),
    StepState.CANCELLED: frozenset(),
}
