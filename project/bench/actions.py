"""Actions that do nothing, so that what is measured is the engine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

from dynflow_app import BaseAction, SubPlansAction
from dynflow_app.actions.sub_plans import SubPlan


class NoOp(BaseAction):
    """Does nothing."""

    def run(self) -> None:
        return


class AsyncSleep(BaseAction):
    """Waits without a thread."""

    async def run(self) -> None:
        await asyncio.sleep(self.input["seconds"])


class ThreadSleep(BaseAction):
    """Waits in a thread."""

    def run(self) -> None:
        time.sleep(self.input["seconds"])


class Fan(BaseAction):
    """Many steps side by side."""

    def plan(self, count: int) -> None:
        for _ in range(count):
            self.plan_action(NoOp)


class Chain(BaseAction):
    """Steps one after the other."""

    def plan(self, count: int) -> None:
        with self.sequence():
            for _ in range(count):
                self.plan_action(NoOp)


class Sleepers(BaseAction):
    """Many steps that wait at the same time."""

    def plan(self, count: int, seconds: float, in_threads: bool = False) -> None:
        for _ in range(count):
            self.plan_action(ThreadSleep if in_threads else AsyncSleep, seconds=seconds)


class EachPhase(BaseAction):
    """A plan, a run and a finalize phase."""

    def plan(self, number: int) -> None:
        self.plan_self(number=number)

    def run(self) -> None:
        self.output["squared"] = self.input["number"] ** 2

    def finalize(self) -> None:
        self.output["done"] = True


class Family(SubPlansAction):
    """Many sub-plans."""

    @property
    def concurrency_limit(self) -> int | None:  # type: ignore[override] # a number per plan
        limit: int | None = self.input["limit"]
        return limit

    def total(self) -> int:
        count: int = self.input["count"]
        return count

    def sub_plans(self, start: int, stop: int) -> Iterator[SubPlan]:
        for number in range(start, stop):
            yield self.sub_plan(EachPhase, number=number)
