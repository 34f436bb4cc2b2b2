"""Actions that do nothing, so that what is measured is the engine."""

from __future__ import annotations

import asyncio

from dynflow_app import BaseAction


class NoOp(BaseAction):
    """Does nothing."""

    def run(self) -> None:
        return


class AsyncSleep(BaseAction):
    """Waits without a thread."""

    async def run(self) -> None:
        await asyncio.sleep(self.input["seconds"])


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

    def plan(self, count: int, seconds: float) -> None:
        for _ in range(count):
            self.plan_action(AsyncSleep, seconds=seconds)
