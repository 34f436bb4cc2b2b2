"""How the demo ends early: an error that is explained, or a signal."""

from __future__ import annotations

import signal
from types import FrameType


class DemoError(Exception):
    """The demo cannot go on; the text says why, ``hint`` what to do."""

    def __init__(self, reason: str, hint: str = "") -> None:
        """Say why and what to do."""
        super().__init__(reason)
        self.hint = hint


class Interrupted(BaseException):
    """Ctrl-C, SIGTERM or SIGHUP arrived."""

    def __init__(self, number: int) -> None:
        """Remember which."""
        super().__init__(number)
        self.number = number


def raise_on_signals() -> None:
    """Let the signals that ask for the end raise `Interrupted`, the first of them only."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _raise)


def ignore_signals() -> None:
    """Clean up in peace: everything is about to end anyway."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def _raise(number: int, frame: FrameType | None) -> None:
    ignore_signals()
    raise Interrupted(number)
