"""What `explain` finds, and how it says so."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

LONGEST_ERROR = 200


class FindingCode(StrEnum):
    """Kinds of reasons."""

    FROZEN = "frozen"
    STARTS_LATER = "starts_later"
    NO_ORCHESTRATOR = "no_orchestrator"
    REDIS_UNREACHABLE = "redis_unreachable"
    NO_WORKER = "no_worker"
    WORKERS_SUSPENDED = "workers_suspended"
    QUEUE_BACKED_UP = "queue_backed_up"
    TURN_WAITS = "turn_waits"
    THROTTLED = "throttled"
    LOCK_WAITS = "lock_waits"
    WORKER_LOST = "worker_lost"
    ROW_LOCKED = "row_locked"
    WORKER_STUCK = "worker_stuck"
    STOPPING = "stopping"
    CLASS_MISSING = "class_missing"
    RETRY_WAITS = "retry_waits"
    TIMER_WAITS = "timer_waits"
    EVENT_WAITS = "event_waits"
    SUB_PLANS_WAIT = "sub_plans_wait"
    PREREQUISITE_WAITS = "prerequisite_waits"
    SKIPPING = "skipping"
    ORCHESTRATOR_BEHIND = "orchestrator_behind"
    STEP_FAILED = "step_failed"
    ORCHESTRATION_FAILED = "orchestration_failed"
    PAUSED = "paused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One reason why a plan does not move."""

    code: FindingCode
    message: str
    """One sentence with the facts."""
    remedy: str
    """What to do about it."""
    step_number: int | None = None
    """The step that it is about, or the first of them."""
    since: datetime | None = None


def name(step: Any, word: str = "Step") -> str:
    """A step (with ``action_name``) in a sentence."""
    return f"{word} {step.number} ({step.phase}, {step.action_name})"


def counted(number: int, most: int) -> str:
    """A number that nobody counted beyond `most`."""
    return f"more than {most}" if number > most else str(number)


def exactly(at: datetime) -> str:
    """A point in time."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def span(duration: timedelta) -> str:
    """A duration in its largest unit; below zero is zero."""
    seconds = max(0.0, duration.total_seconds())
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def due(at: datetime | None, now: datetime) -> str:
    """When something happens, or should have happened."""
    if at is None:
        return "at an unknown time"
    if at >= now:
        return f"in {span(at - now)}"
    return f"as soon as an orchestrator looks (it was due {span(now - at)} ago)"


def error_text(error_class: str | None, message: str | None) -> str:
    """Class and message on one short line."""
    text = " ".join(f"{(error_class or 'error').rpartition('.')[2]}: {message or 'no message'}".split()).rstrip(".")
    return text if len(text) <= LONGEST_ERROR else f"{text[:LONGEST_ERROR]}…"
