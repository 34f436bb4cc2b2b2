"""Actions that make sub-plans."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from dynflow_app import BaseAction, Event, SubPlansAction
from dynflow_app.actions.sub_plans import SubPlan
from tests.testapp.journal import Journal


class Child(BaseAction):
    """Plans only if that is not broken, runs only if that is not."""

    idempotent = True

    def plan(self, name: str) -> None:
        Journal().do(f"plan {name}")
        self.plan_self(name=name)

    def run(self) -> None:
        Journal().do(f"run {self.input['name']}")
        self.output["ran"] = self.input["name"]

    def finalize(self) -> None:
        self.output["finalized"] = True


class WaitingChild(BaseAction):
    """Waits for an event."""

    def run(self, event: Event | None = None) -> None:
        if event is None:
            self.suspend()


class AnsweringChild(WaitingChild):
    """Says what it was told."""

    def cancel(self) -> None:
        Journal().write(f"cancel {self.input['name']}")


class Parent(SubPlansAction):
    """As many children as there are names."""

    batch_size = 5
    child: type[BaseAction] = Child

    def total(self) -> int:
        return len(self.input["names"])

    def sub_plans(self, start: int, stop: int) -> Iterator[SubPlan]:
        Journal().write(f"batch {start}-{stop}")
        for name in self.input["names"][start:stop]:
            yield self.sub_plan(self.child, name=name, label=f"child {name}")

    def finalize(self) -> None:
        self.output["ran"] = [record.output.get("ran") for record in self.sub_plan_records()]


class LimitedParent(Parent):
    """Not all at once."""

    @property
    def concurrency_limit(self) -> int | None:  # type: ignore[override] # a number per plan
        limit: int = self.input["limit"]
        return limit


class ParentOfWaiting(Parent):
    """Of children that wait for events."""

    child = WaitingChild


class ParentOfAnswering(Parent):
    """Of children with a `cancel` method."""

    child = AnsweringChild


class HurriedParent(ParentOfWaiting):
    """Has a minute."""

    timeout = timedelta(minutes=1)


class Grandparent(Parent):
    """Whose children are parents."""

    def sub_plans(self, start: int, stop: int) -> Iterator[SubPlan]:
        for name in self.input["names"][start:stop]:
            yield self.sub_plan(Parent, names=[f"{name}{n}" for n in range(3)])


class WrongParent(Parent):
    """Gives less than it promised."""

    def sub_plans(self, start: int, stop: int) -> Iterator[Any]:
        yield from [self.sub_plan(Child, name="only one")][: stop - start - 1]


class KillableParent(LimitedParent):
    """In small batches, so that there are many moments in which a worker may die."""

    batch_size = 4
