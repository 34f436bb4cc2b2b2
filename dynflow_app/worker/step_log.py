"""The log of one invocation: all that its code says, up to a limit; above it the beginning and the end."""

from __future__ import annotations

from collections import deque

TAIL = 64 * 1024
"""Characters of the end that are kept of what is beyond the limit."""


class StepLog:
    """Lets text pass until the limit is reached, then holds back the last of it, which `rest` gives at the end.

    Not for several threads at once; `log()` of an action may be called by any, so its caller locks.
    """

    def __init__(self, limit: int) -> None:
        self._left = limit
        self._tail: deque[str] = deque()
        self._kept = 0
        self._beyond = 0

    def take(self, text: str) -> str:
        """The part of `text` that is written now."""
        now, later = text[: self._left], text[self._left :]
        self._left -= len(now)
        if later:
            self._hold(later)
        return now

    def rest(self) -> str:
        """What is written at the end: how much was left out, and the last of it."""
        if not self._beyond:
            return ""
        tail = "".join(self._tail)[-TAIL:]
        left_out = self._beyond - len(tail)
        return f"\n... {left_out} characters left out ...\n{tail}" if left_out else tail

    def _hold(self, text: str) -> None:
        self._beyond += len(text)
        self._tail.append(text[-TAIL:])
        self._kept += len(self._tail[-1])
        while self._kept - len(self._tail[0]) >= TAIL:
            self._kept -= len(self._tail.popleft())
