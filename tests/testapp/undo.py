"""Actions that can be undone, and plans made of them."""

from __future__ import annotations

from typing import Any

from dynflow_app import BaseAction, Cancel, Rescue
from dynflow_app.actions.context import PlannedAction
from tests.testapp.actions import Leaf, RandomPlan, Record
from tests.testapp.journal import Journal


class Deed(Record):
    """Can be undone, as long as it is known what it produced."""

    idempotent = True

    def revert(self) -> None:
        Journal().do(f"revert {self.output['value']}")


class Deeds(BaseAction):
    """a -> (b, c and a trifle, which is not undone) -> d; b consumes the output of a."""

    def plan(self) -> None:
        with self.sequence():
            first = self.plan_action(Deed, name="a")
            with self.concurrence():
                self.plan_action(Deed, name="b", of=first.output["value"])
                self.plan_action(Deed, name="c")
                self.plan_action(Record, name="trifle")
            self.plan_action(Deed, name="d")


class RowsOfDeeds(BaseAction):
    """Two rows of `width` deeds; each of the second waits for all of the first."""

    def plan(self, width: int) -> None:
        with self.sequence():
            for row in ("upper", "lower"):
                with self.concurrence():
                    for number in range(width):
                        self.plan_action(Deed, name=f"{row}-{number}")


class DeedOrRevert(Deed):
    """Suggests to undo the plan when it fails, be it in run or in revert."""

    rescue_strategy = Rescue.REVERT


class DeedsOrRevert(BaseAction):
    """Three deeds in a row; the failure of any undoes those before it."""

    def plan(self) -> None:
        with self.sequence():
            for name in "abc":
                self.plan_action(DeedOrRevert, name=name)


class UndoneLater(BaseAction):
    """Waits while it is undone, a minute at most; agrees to being cancelled."""

    def run(self) -> None:
        Journal().do("run")

    def revert(self) -> None:
        Journal().do("revert")
        self.suspend(timeout=60)

    def cancel(self) -> None:
        Journal().do("cancel")
        raise Cancel

    def on_timeout(self) -> None:
        Journal().do("on_timeout")


class Visit(BaseAction):
    """Two at once in a region."""

    concurrency_key = "region {region}"
    concurrency_limit = 2

    def run(self) -> None:
        self.output["visited"] = self.input["region"]


class LeafThatCanBeUndone(Leaf):
    """One step of a random plan."""

    def revert(self) -> None:
        Journal().do(f"revert {self.input['name']}")


class RandomDeeds(RandomPlan):
    """As RandomPlan; the steps with the numbers `undoable` can be undone."""

    def plan(self, program: list[Any], undoable: list[int]) -> None:
        self.undoable = {str(number) for number in undoable}
        super().plan(program)

    def plan_action(self, action_class: type[BaseAction], *args: Any, **kwargs: Any) -> PlannedAction:
        can_be_undone = kwargs["name"] in self.undoable
        return super().plan_action(LeafThatCanBeUndone if can_be_undone else action_class, *args, **kwargs)
