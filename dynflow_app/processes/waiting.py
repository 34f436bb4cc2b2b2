"""Waiting for servers that are not there yet, or not there any more: one line, then patience."""

from __future__ import annotations

import logging
import random
import threading
import time

_log = logging.getLogger("dynflow_app.processes")


class Backoff:
    """Waits 0.1 to 2 s between tries; says what it waits for whenever that changes, and when it is back."""

    def __init__(self) -> None:
        self._pause = 0.1
        self._what = self._reason = ""

    def wait(self, what: str, error: Exception, stop: threading.Event | None = None) -> None:
        """Wait a little for `what`, or until `stop` is set."""
        reason = " ".join(str(error).split())[:200]
        if (self._what, self._reason) != (what, reason):
            self._what, self._reason = what, reason
            _log.warning("waiting for %s: %s", what, reason, extra={"action": "waiting"})
        pause = self._pause * random.uniform(0.8, 1.2)  # noqa: S311 - spreads retries, hides nothing
        if stop is None:
            time.sleep(pause)
        else:
            stop.wait(pause)
        self._pause = min(self._pause * 1.5, 2.0)

    def reset(self) -> None:
        """It worked."""
        if self._what:
            _log.warning("no longer waiting for %s", self._what, extra={"action": "waited"})
        self._what = self._reason = ""
        self._pause = 0.1
