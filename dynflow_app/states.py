"""States of plans and steps as data: enums, sets and the tables of allowed transitions.

Guarded updates, the admin, the API and the documentation read these tables; nothing else knows which change is legal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from django.db.models import TextChoices
from django.utils.translation import gettext_lazy as _

from dynflow_app.exceptions import IllegalTransitionError


class Phase(TextChoices):
    """Part of an action's life. The plan phase belongs to the trigger; the others are steps, run by workers.

    *Rescue*, *skip* and *hook* steps are asides: user code about a plan that is no part of its flow. They are made
    when needed, and the plan's result does not depend on them.
    """

    PLAN = "plan", _("plan")
    RUN = "run", _("run")
    FINALIZE = "finalize", _("finalize")
    REVERT = "revert", _("revert")
    RESCUE = "rescue", _("rescue")
    SKIP = "skip", _("skip")
    HOOK = "hook", _("hook")


class PlanState(TextChoices):
    """Where in its life a plan is; `PLAN_TRANSITIONS` says which change is legal, the comments who makes it."""

    PENDING = "pending", _("pending")  # not stored yet; no row of the ledger has it
    SCHEDULED = "scheduled", _("scheduled")  # by a trigger for later; the orchestrator takes it out when it is to start
    PLANNING = "planning", _("planning")  # by the orchestrator; the worker that plans it takes it out, or its failure
    PLANNED = "planned", _("planned")  # by a trigger or a worker; the orchestrator takes it out: locks, singletons
    RUNNING = "running", _("running")  # by the orchestrator, or a trigger about whose plan nothing is to be decided
    PAUSED = "paused", _("paused")  # by the orchestrator after a failure; a person takes it out: resume, cancel
    STOPPED = "stopped", _("stopped")  # by whoever ends it: a worker if all went well, the orchestrator, a person


class PlanResult(TextChoices):
    """How a plan ended; pending until it is known."""

    PENDING = "pending", _("pending")
    SUCCESS = "success", _("success")
    WARNING = "warning", _("warning")
    ERROR = "error", _("error")
    CANCELLED = "cancelled", _("cancelled")


class StepState(TextChoices):
    """Where in its life a step is; `STEP_TRANSITIONS` says which change is legal, the comments who makes it.

    A step is *ready* once everything it waits for has ended; a worker takes it from there (*running*).
    A worker that dies leaves it *running* until its world is invalidated.
    """

    PENDING = (
        "pending",
        _("pending"),
    )  # by planning and resume; whoever records the last thing it waits for takes it out
    READY = "ready", _("ready")  # by that release, a timer, an event or a hand-back; the claim of a worker takes it out
    RUNNING = "running", _("running")  # by a claim; the record of its outcome takes it out, or recovery
    SUSPENDED = "suspended", _("suspended")  # by itself, or a failed try; an event, a timer or sub-plans take it out
    SUCCESS = "success", _("success")  # by the record of its outcome; for ever
    SKIPPING = "skipping", _("skipping")  # by skip, if its action wants to be asked; the answer takes it out
    SKIPPED = "skipped", _("skipped")  # by skip; for ever
    ERROR = "error", _("error")  # by the record of its outcome, or recovery; resume, skip or cancel take it out
    CANCELLED = "cancelled", _("cancelled")  # by cancel or abort, or its answer to them; for ever


class Cause(TextChoices):
    """What the next invocation of a step (or the one under way) answers."""

    START = "start", _("start")
    WAKE = "wake", _("next look")
    EVENT = "event", _("event")
    TIMEOUT = "timeout", _("timeout")
    CANCEL = "cancel", _("cancel")
    PAUSED = "paused", _("plan paused")  # of hook steps
    STOPPED = "stopped", _("plan stopped")  # of hook steps


class Alarm(TextChoices):
    """What happens to a step at its ``alarm_at``: the one durable timer that a step has."""

    NONE = "", _("none")
    RETRY = "retry", _("next try")
    WAKE = "wake", _("next look")
    EVENT = "event", _("delayed event")
    TIMEOUT = "timeout", _("time-out")
    PARKED = "parked", _("next search for its class")
    START = "start", _("not claimed in time")  # of ready steps; all others belong to suspended ones


class StopRequest(TextChoices):
    """How a running step was told to end."""

    NONE = "", _("none")
    CANCEL = "cancel", _("cancel")
    ABORT = "abort", _("abort")


class Rescue(TextChoices):
    """What becomes of a plan in which a step failed for good.

    *Skip* gives the failed step up together with all that needs its output; *pause* waits for a person; *fail* stops
    the plan; *revert* stops it and undoes, in reverse order, what its completed steps did.
    """

    UNDECIDED = "", _("undecided")
    SKIP = "skip", _("skip")
    PAUSE = "pause", _("pause")
    FAIL = "fail", _("fail")
    REVERT = "revert", _("revert")


class EventState(TextChoices):
    """What became of an event sent to a step."""

    WAITING = "waiting", _("waiting")
    HANDLED = "handled", _("handled")
    DROPPED = "dropped", _("dropped")


class OnConflict(TextChoices):
    """What becomes of a plan that cannot have its locks when it is to start."""

    WAIT = "wait", _("wait")
    FAIL = "fail", _("fail")
    SKIP = "skip", _("skip")


class LockState(TextChoices):
    """Where in its life a lock is. *Requested*: its plan is not to start yet, so it is not in line."""

    REQUESTED = "requested", _("requested")
    WAITING = "waiting", _("waiting")
    HELD = "held", _("held")
    UNLOCKED = "unlocked", _("unlocked")


class MadeAs(TextChoices):
    """How a plan was made from another."""

    RERUN = "rerun", _("rerun")
    REVERT = "revert", _("revert")


class WorldState(TextChoices):
    """Whether a process may claim steps, or was declared dead."""

    ACTIVE = "active", _("active")
    INVALIDATED = "invalidated", _("invalidated")


class ScheduleState(TextChoices):
    """Whether a schedule makes plans. One that has ended has no due time left."""

    ACTIVE = "active", _("active")
    PAUSED = "paused", _("paused")
    ENDED = "ended", _("ended")


class Overlap(TextChoices):
    """What becomes of an occurrence while an earlier plan of its schedule has not stopped."""

    SKIP = "skip", _("skip")
    QUEUE = "queue", _("queue one")
    ALLOW = "allow", _("allow")
    CANCEL = "cancel", _("cancel the earlier")


class Missed(TextChoices):
    """What becomes of due times at which nobody was there to act on them."""

    SKIP = "skip", _("skip")
    LATEST = "latest", _("the latest")
    ALL = "all", _("all within the window")


class OccurrenceOutcome(TextChoices):
    """What became of one due time of a schedule."""

    FIRED = "fired", _("fired")
    SKIPPED = "skipped", _("skipped")
    MISSED = "missed", _("missed")


#: Steps that occupy a worker, or soon will: they count in ``ExecutionPlan.active_steps``, except hooks, which run
#: beside whatever the plan does, even when it has stopped.
ACTIVE_STEP_STATES = frozenset({StepState.READY, StepState.RUNNING, StepState.SUSPENDED, StepState.SKIPPING})
#: Steps that never change again; what waits for them may go on (except after *cancelled*).
TERMINAL_STEP_STATES = frozenset({StepState.SUCCESS, StepState.SKIPPED, StepState.CANCELLED})
#: Phases whose steps form the flow of a plan, released one after the other.
FLOW_PHASES = frozenset({Phase.RUN, Phase.REVERT})
#: Phases in which user code runs about a plan rather than as a part of it.
ASIDE_PHASES = frozenset({Phase.RESCUE, Phase.SKIP, Phase.HOOK})
#: Phases that the result of a plan depends on.
COUNTED_PHASES = frozenset({Phase.RUN, Phase.REVERT, Phase.FINALIZE})
#: Suspended steps with one of these alarms did not suspend themselves, so no event is delivered to them.
DEAF_ALARMS = frozenset({Alarm.RETRY, Alarm.PARKED})
#: Active steps that wait for a worker or have one: each of them has a ticket, and no other step has.
TICKETED_STEP_STATES = frozenset({StepState.READY, StepState.RUNNING})
#: Plans that keep another one of the same singleton from being active; the ledger has a constraint for it.
SINGLETON_STATES = frozenset({PlanState.PLANNING, PlanState.PLANNED, PlanState.RUNNING})
#: Plans that have begun and not stopped, so that their steps may be active.
BEGUN_PLAN_STATES = frozenset({PlanState.PLANNING, PlanState.RUNNING, PlanState.PAUSED})
#: Plans that were stored and have not begun.
WAITING_PLAN_STATES = frozenset({PlanState.SCHEDULED, PlanState.PLANNED})
#: Plans that wait for somebody, or for nothing any more.
RESTING_PLAN_STATES = frozenset({PlanState.PAUSED, PlanState.STOPPED})
#: Plans an operator or a process may still change.
LIVE_PLAN_STATES = frozenset(PlanState) - {PlanState.STOPPED}

Transitions = Mapping[str, frozenset[Any]]
"""From each state to those that may follow."""

PLAN_TRANSITIONS: Transitions = {
    PlanState.PENDING: frozenset({PlanState.SCHEDULED, PlanState.PLANNED, PlanState.RUNNING, PlanState.STOPPED}),
    PlanState.SCHEDULED: frozenset({PlanState.PLANNING, PlanState.STOPPED}),
    PlanState.PLANNING: frozenset({PlanState.PLANNED, PlanState.STOPPED}),
    PlanState.PLANNED: frozenset({PlanState.RUNNING, PlanState.STOPPED}),
    PlanState.RUNNING: frozenset({PlanState.PAUSED, PlanState.STOPPED}),
    PlanState.PAUSED: frozenset({PlanState.RUNNING, PlanState.STOPPED}),
    PlanState.STOPPED: frozenset(),
}

STEP_TRANSITIONS: Transitions = {
    StepState.PENDING: frozenset({StepState.READY, StepState.RUNNING, StepState.SKIPPED, StepState.CANCELLED}),
    StepState.READY: frozenset(
        {
            StepState.RUNNING,
            StepState.PENDING,  # taken back: its plan fails fast, or was halted
            StepState.CANCELLED,
            StepState.ERROR,  # not claimed in time
        }
    ),
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
    StepState.SUSPENDED: frozenset({StepState.READY, StepState.CANCELLED}),
    StepState.ERROR: frozenset({StepState.PENDING, StepState.SKIPPING, StepState.SKIPPED, StepState.CANCELLED}),
    StepState.SKIPPING: frozenset({StepState.SKIPPED, StepState.ERROR, StepState.CANCELLED}),
    StepState.SUCCESS: frozenset(),
    StepState.SKIPPED: frozenset(),
    StepState.CANCELLED: frozenset(),
}

EVENT_TRANSITIONS: Transitions = {
    EventState.WAITING: frozenset({EventState.HANDLED, EventState.DROPPED}),
    EventState.HANDLED: frozenset(),
    EventState.DROPPED: frozenset(),
}

LOCK_TRANSITIONS: Transitions = {
    LockState.REQUESTED: frozenset({LockState.WAITING, LockState.UNLOCKED}),
    LockState.WAITING: frozenset({LockState.HELD, LockState.REQUESTED, LockState.UNLOCKED}),
    LockState.HELD: frozenset({LockState.UNLOCKED}),
    LockState.UNLOCKED: frozenset(),
}

WORLD_TRANSITIONS: Transitions = {
    WorldState.ACTIVE: frozenset({WorldState.INVALIDATED}),
    WorldState.INVALIDATED: frozenset({WorldState.ACTIVE}),  # it was not dead, only silent
}

SCHEDULE_TRANSITIONS: Transitions = {
    ScheduleState.ACTIVE: frozenset({ScheduleState.ACTIVE, ScheduleState.PAUSED, ScheduleState.ENDED}),
    ScheduleState.PAUSED: frozenset({ScheduleState.ACTIVE, ScheduleState.ENDED, ScheduleState.PAUSED}),
    ScheduleState.ENDED: frozenset({ScheduleState.ACTIVE, ScheduleState.PAUSED, ScheduleState.ENDED}),
}


def require_legal(table: Transitions, frm: Iterable[str], to: str) -> None:
    """Raise `IllegalTransitionError` unless each of the states `frm` may become `to`."""
    for state in frm:
        if to not in table[state]:
            raise IllegalTransitionError(f"The ledger knows no change from {state} to {to}.", frm=state, to=to)
