"""Values that cross borders between the ledger and the processes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID

from dynflow_app.states import Alarm, Cause, Rescue, StepState


class EnvelopeKind(StrEnum):
    """What an envelope asks the orchestrator to do."""

    PLANNED = "planned"
    """A plan was stored and may start."""
    SETTLED = "settled"
    """No step of the plan is active any more: its next phase, or its end, has to be decided."""
    UNLOCK = "unlock"
    """Locks of the plan are to be unlocked, or it has to leave the line."""
    SUB_PLANS = "sub-plans"
    """Sub-plans of a step of the plan came to rest: the payload says how many, by result."""
    CANCEL_CHILDREN = "cancel children"
    """The plan was cancelled, so its sub-plans have to be; likewise for the other two."""
    ABORT_CHILDREN = "abort children"
    HALT_CHILDREN = "halt children"


class EndedAs(StrEnum):
    """How one attempt of a step ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    ROLLED_BACK = "rolled back"
    """It belongs to a finalize phase in which another step failed."""
    LOST = "lost"
    """Its process vanished: whether its effects took place is unknown."""
    SUSPENDED = "suspended"
    """It suspended itself, to be invoked again by an event or a timer."""
    CANCELLED = "cancelled"
    """It was told to end, and did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What ``run(self, event)`` gets when an event wakes its step."""

    id: int
    name: str
    data: Any = None
    """JSON, as the sender gave it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfEvent:
    """An event that a step sends to itself, ``after`` seconds from the end of this invocation."""

    name: str
    data: Any = None
    after: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A step that this process may run now, with everything needed to do so."""

    step_id: int
    plan_id: UUID
    number: int
    attempt: int
    phase: str
    is_awaited: bool
    action_id: int
    action_number: int
    action_name: str
    input: dict[str, Any]
    output: dict[str, Any]
    """What earlier invocations of the step left, or ``run`` if this is another phase."""
    consumes: list[int]
    queue: str
    cause: Cause = Cause.START
    event: Event | None = None
    """The event to handle, if that is the cause."""
    failures: int = 0
    """How many tries failed since the step began or was resumed."""
    companions: int = 0
    """Of a finalize step: how many others belong to the phase that it was claimed for."""
    remaining: float | None = None
    """Seconds until its time-out, if an earlier invocation has set it."""
    is_limited: bool = False
    """Whether it takes a place of a limit."""


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What became of one attempt; the ledger refuses it if the attempt is not the current one any more."""

    step_id: int
    plan_id: UUID
    action_id: int
    attempt: int
    is_awaited: bool
    state: StepState
    """What the step becomes: success, error, suspended, cancelled, ready again, or pending if its finalize phase was
    rolled back."""
    ended_as: EndedAs | None
    """None if user code never started: then the attempt leaves no trace."""
    seconds: float = 0.0
    """How long user code ran."""
    ended: float = 0.0
    """When it returned, on this process's monotonic clock; 0 for now."""
    output: str | None = None
    """JSON; None if it is unchanged. Text, so that nothing user code still holds can change it."""
    input: str | None = None
    """JSON: the input with references resolved, where it had any."""
    error: dict[str, Any] | None = None
    phase: str = "run"
    alarm: Alarm = Alarm.NONE
    """What wakes a suspended step, after ``alarm_in`` seconds from its end; none: only an event."""
    alarm_in: float = 0.0
    cause: Cause = Cause.START
    """What the next invocation of a suspended step answers."""
    deadline_in: float | None = None
    """Seconds from its end to the time-out of a suspended step; None if it has none."""
    event_id: int | None = None
    """The event that was handled; it goes with the outcome."""
    sent: list[SelfEvent] | None = None
    unlocked: list[str] | None = None
    """Resources whose locks the plan does not need any more."""
    wakes_below: int | None = None
    """Of a step with sub-plans: it goes on when fewer of them than this move."""
    progress: float | None = None
    """From 0 to 1: how much of a suspended step is done."""
    rescue: Rescue = Rescue.UNDECIDED
    """What a rescue step decided."""
    is_limited: bool = False
    """Whether it gives a place of a limit back when it ends."""
