"""Actions that schedules repeat."""

from __future__ import annotations

import os
from datetime import timedelta

from dynflow_app import BaseAction, Every, Rescue
from tests.testapp.journal import Journal

TAKES = "TESTAPP_TICK_TAKES"
"""Environment: how many seconds `Ticks` takes."""


class Tick(BaseAction):
    """Says that it ran."""

    idempotent = True

    def run(self) -> None:
        Journal().do(f"tick {self.input.get('name', '')}".strip())


class Ticks(BaseAction):
    """Every second, in processes that declare it; says which of its plans began and ended."""

    schedule = Every(seconds=1)
    idempotent = True
    rescue_strategy = Rescue.FAIL

    def run(self) -> None:
        if self.output.get("began") is None:
            Journal().write(f"begin {self.plan_id}")
            self.output["began"] = True
            if takes := float(os.environ.get(TAKES, "0")):
                self.suspend(wake_after=timedelta(seconds=takes))
        Journal().write(f"end {self.plan_id}")


class Report(BaseAction):
    """Takes a required argument, and keeps a secret."""

    sensitive = {"token"}

    def plan(self, month: int, token: str = "") -> None:
        self.plan_self(month=month, token=token)

    def run(self) -> None:
        Journal().write(f"report {self.input['month']} {self.input['token']}".strip())
