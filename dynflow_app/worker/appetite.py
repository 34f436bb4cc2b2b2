"""Appetite: how many steps a worker claims. Pure arithmetic over what it has in hand and how long steps took."""

from __future__ import annotations

from dataclasses import dataclass

PROMPT = 0.05
"""Seconds of work that may be claimed ahead: steps longer than this are only claimed when they can start."""
_MEMORY = 0.7
"""How much the last duration weighs less than all before."""


@dataclass(slots=True)
class Appetite:
    """What one worker has learned."""

    threads: int
    coroutines: int
    batch: int
    """Most steps claimed at once."""
    seconds: float = PROMPT
    """How long a step takes."""
    is_for_coroutines: bool = False
    """Whether the last claim brought nothing but coroutines, so that as many more may be claimed."""

    def learn(self, seconds: float, *, times: int = 1) -> None:
        """A step took so long, several times."""
        self.seconds += (seconds - self.seconds) * (1 - _MEMORY**times)

    def learn_at_least(self, seconds: float) -> None:
        """Steps turned out to take longer than was thought."""
        self.seconds = max(self.seconds, seconds)

    def room(self, *, blocking: int, coroutines: int, slots: int) -> int:
        """How many steps to claim now: as many as can start, or more if they are so short that they start soon.

        `blocking` steps and `coroutines` are in hand; no more than `slots` can be kept track of.
        """
        ahead = max(self.threads, min(self.batch, int(PROMPT / max(self.seconds, 1e-6))))
        room = ahead - blocking
        most = self.coroutines - coroutines
        if self.is_for_coroutines or room > most:
            room = most
        return max(0, min(self.batch, room, slots))
