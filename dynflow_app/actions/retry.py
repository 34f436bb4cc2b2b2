"""Retry: when a failed step is tried again, and after how long. It waits by a durable timer, not by sleeping."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

MOST_ATTEMPTS = 1000
LONGEST_DELAY = 7 * 24 * 3600.0


@dataclass(frozen=True, kw_only=True)
class Retry:
    """How often, how soon and for which errors the ``run`` of an action is tried again.

    The first pause takes ``delay`` seconds, each further one ``backoff`` times the one before, at most
    ``longest_delay``. ``jitter`` from 0 to 1 says which part of each pause is left to chance, so that many steps that
    failed together do not come back together. Raises ValueError for numbers out of range.
    """

    attempts: int = 5
    """How often it is tried altogether, the first time included; 1 to 1000."""
    delay: float = 1.0
    """Seconds before the second try."""
    backoff: float = 2.0
    """Factor from one pause to the next; 1 for pauses that do not grow."""
    longest_delay: float = 600.0
    """Seconds; at most a week."""
    jitter: float = 0.2
    on: tuple[type[BaseException], ...] = field(default=(Exception,))
    """Which errors; others count as final."""

    def __post_init__(self) -> None:
        if not 1 <= self.attempts <= MOST_ATTEMPTS:
            raise ValueError(f"Retry(attempts={self.attempts!r}): give a number from 1 to {MOST_ATTEMPTS}.")
        if not 0 <= self.delay <= LONGEST_DELAY or not 0 <= self.longest_delay <= LONGEST_DELAY:
            raise ValueError(f"Retry: delays are seconds from 0 to {LONGEST_DELAY:.0f}.")
        if self.backoff < 1:
            raise ValueError(f"Retry(backoff={self.backoff!r}): give a factor of at least 1.")
        if not 0 <= self.jitter <= 1:
            raise ValueError(f"Retry(jitter={self.jitter!r}): give a part from 0 to 1.")
        given: object = self.on  # users' may be anything
        kinds = given if isinstance(given, tuple) else (given,)
        if not all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds):
            raise ValueError(f"Retry(on={self.on!r}): give a tuple of exception classes.")
        object.__setattr__(self, "on", kinds)

    def pause_after(self, failures: int, error: BaseException, chance: float | None = None) -> float | None:
        """Seconds until the next try after so many `failures`, the last of them `error`; None if there is none.

        `chance` from 0 to 1 replaces the random part.
        """
        if failures >= self.attempts or not isinstance(error, self.on):
            return None
        exponent = min(failures - 1, 64)  # beyond, any pause has reached its limit
        pause = min(self.delay * self.backoff**exponent, self.longest_delay)
        chance = random.random() if chance is None else chance  # noqa: S311 - spreads load, guards nothing
        return pause * (1 - self.jitter * chance)
