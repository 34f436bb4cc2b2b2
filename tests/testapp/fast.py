"""Plans that fail fast, whose failed steps are given up, and whose waiting steps are cancelled."""

from __future__ import annotations

from dynflow_app import BaseAction, Rescue
from tests.testapp.actions import Record, RecordSecond
from tests.testapp.journal import Journal


class GivenUp(Record):
    """May be given up."""

    rescue_strategy = Rescue.SKIP


class GivenUpWhenAsked(GivenUp):
    """May be given up, and is told."""

    def on_skip(self) -> None:
        Journal().do(f"skip {self.input['name']}")


class FastWith(BaseAction):
    """An action that may be given up, beside one on another queue; nothing starts after the first error."""

    fail_fast = True

    def plan(self, action: type[BaseAction]) -> None:
        self.plan_action(action, name="given up")
        self.plan_action(RecordSecond, name="beside")


class AsksOnSecond(BaseAction):
    """Waits for ever, on a queue of its own, and answers a cancel with success."""

    queue = "second"

    def run(self) -> None:
        self.suspend()

    def cancel(self) -> None:
        Journal().do("cancel")


class FastWithWaiting(BaseAction):
    """As FastWith; what is beside it waits."""

    fail_fast = True

    def plan(self) -> None:
        self.plan_action(Record, name="failing")
        self.plan_action(AsksOnSecond, name="beside")
