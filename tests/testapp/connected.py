"""Actions that share a connection per process, and say in the journal when it was opened and closed."""

from __future__ import annotations

import os
import time

from dynflow_app import BaseAction, WorkerResource
from tests.testapp.journal import Journal


class Line:
    """A connection that knows its process."""

    def __init__(self) -> None:
        """Open it; slowly, so that threads could come in between."""
        time.sleep(0.05)
        self.pid = os.getpid()
        Journal().do(f"open {self.pid}")

    def close(self) -> None:
        Journal().do(f"close {os.getpid()} {self.pid}")


line = WorkerResource(Line, close=Line.close)


class Uses(BaseAction):
    """Uses the line of its process."""

    idempotent = True

    def run(self) -> None:
        Journal().write(f"use {os.getpid()} {line.get().pid}")


class UsesApart(Uses):
    """As `Uses`, in a process of its own."""

    isolated = True


class ManyUses(BaseAction):
    """Many of them."""

    def plan(self, number: int, apart: bool = False) -> None:
        for _ in range(number):
            self.plan_action(UsesApart if apart else Uses)
