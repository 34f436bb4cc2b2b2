"""Values that cross borders between the ledger and the processes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID

from dynflow_app.states import StepState


class EnvelopeKind(StrEnum):
    """What an envelope asks the orchestrator to do."""

    PLANNED = "planned"
    """A plan was stored and may start."""
    SETTLED = "settled"
    """No step of the plan is active any more: its next phase, or its end, has to be decided."""


class EndedAs(StrEnum):
    """How one attempt of a step ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    ROLLED_BACK = "rolled back"
    """It belongs to a finalize phase in which another step failed."""
    LOST = "lost"
    """Its process vanished: whether its effects took place is unknown."""


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
    consumes: list[int]
    queue: str


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What became of one attempt; the ledger refuses it if the attempt is not the current one any more."""

    step_id: int
    plan_id: UUID
    action_id: int
    attempt: int
    is_awaited: bool
    state: StepState
    """What the step becomes: success, error, ready again, or pending if its finalize phase was rolled back."""
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
