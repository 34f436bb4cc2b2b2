"""Actions that look again and again, with a timer in between."""

from __future__ import annotations

from dynflow_app import BaseAction
from tests.testapp.journal import Journal


class LooksAgain(BaseAction):
    """Looks three times, five seconds apart."""

    def run(self) -> None:
        self.output["looks"] = self.output.get("looks", 0) + 1
        Journal().do("look")
        if self.output["looks"] < 3:
            self.suspend(wake_after=5)


class LooksOften(BaseAction):
    """Looks five times, a moment apart."""

    idempotent = True

    def run(self) -> None:
        looks = self.output["looks"] = self.output.get("looks", 0) + 1
        Journal().do(f"look {self.input['name']} {looks}")
        if looks < 5:
            self.suspend(wake_after=0.2)


class ManyLooks(BaseAction):
    """Twenty that look often."""

    def plan(self) -> None:
        for number in range(20):
            self.plan_action(LooksOften, name=str(number))
