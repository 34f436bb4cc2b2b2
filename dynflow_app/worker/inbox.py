"""What reaches the pump, from any thread: outcomes, what steps say while they run, doorbells."""

from __future__ import annotations

import queue
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from dynflow_app.messages import Claimed, Outcome

if TYPE_CHECKING:
    from dynflow_app.worker.shared_transactions import SelfRecorded


@dataclass(frozen=True, slots=True)
class Rang:
    """A doorbell rang, or the pump is to look for another reason."""


@dataclass(frozen=True, slots=True)
class LogPiece:
    """Text that a step logged."""

    step: Claimed
    text: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a running step has come, from 0 to 1."""

    step_id: int
    attempt: int
    done: float


Item: TypeAlias = "Rang | LogPiece | Progress | Outcome | SelfRecorded"


class Inbox:
    """One queue for all of it. Implements `StepIO`."""

    def __init__(self) -> None:
        self._items: queue.SimpleQueue[Item] = queue.SimpleQueue()

    def put(self, item: Item) -> None:
        """From any thread, and from signal handlers."""
        self._items.put(item)

    def get(self, timeout: float) -> Item | None:
        """The next item; None if there is none after `timeout` seconds."""
        try:
            return self._items.get(timeout=timeout) if timeout > 0 else self._items.get_nowait()
        except queue.Empty:
            return None

    def log(self, step: Claimed, text: str) -> None:
        """An output chunk."""
        self.put(LogPiece(step, text))

    def report(self, step: Claimed, progress: float) -> None:
        """Progress, from 0 to 1."""
        self.put(Progress(step.step_id, step.attempt, progress))
