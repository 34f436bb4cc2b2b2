"""Actions that do what user code should not do."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta

from dynflow_app import BaseAction
from tests.support import wait_until
from tests.testapp.actions import Record
from tests.testapp.journal import Journal


class LogsANumber(BaseAction):
    """Logs what is no text."""

    def run(self) -> None:
        self.log(5)  # type: ignore[arg-type] # the mistake


class Yields(BaseAction):
    """Is a generator by mistake."""

    def run(self) -> Iterator[int]:
        yield 1


class YieldsAsync(BaseAction):
    """Is an asynchronous generator by mistake."""

    async def run(self) -> AsyncIterator[int]:
        yield 1


class Exits(BaseAction):
    """Wants to end the process."""

    def run(self) -> None:
        sys.exit(3)


class ExitsInATask(BaseAction):
    """Wants to end the process from a task of its own."""

    async def run(self) -> None:
        task = asyncio.get_running_loop().create_task(self._exit())
        await asyncio.wait({task})

    async def _exit(self) -> None:
        sys.exit(3)


class UnspeakableError(Exception):
    """Cannot even be shown."""

    def __str__(self) -> str:
        raise SystemExit(3)


class RaisesTheUnspeakable(BaseAction):
    """Raises what cannot be shown."""

    def run(self) -> None:
        raise UnspeakableError


class ReplacesOutput(BaseAction):
    """Assigns its output."""

    def run(self) -> None:
        self.output = {"a": 1}  # type: ignore[assignment] # the mistake


class IsNowhere(BaseAction):
    """Waits, and says that it has come as far as no number says."""

    said = float("nan")

    def run(self) -> None:
        self.suspend()

    def run_progress(self) -> float:
        return self.said


class IsBeyond(IsNowhere):
    """As IsNowhere, and farther than the end."""

    said = 1.5


class TakesNoHint(BaseAction):
    """A coroutine that is over its time at once, and goes on until the journal says stop."""

    timeout = timedelta(0)

    async def run(self) -> None:
        while "stop" not in Journal().lines:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0.02)


class LosesRun(BaseAction):
    """Has a run that a later version has not."""

    def run(self) -> None:
        Journal().do("run lost")


class Neighbours(BaseAction):
    """A good step, the one in question, another good step."""

    def plan(self, action: type[BaseAction]) -> None:
        self.plan_action(Record, name="before")
        self.plan_action(action)
        self.plan_action(Record, name="after")


class SpoilsInput(BaseAction):
    """Puts into its input what cannot be stored."""

    def run(self) -> None:
        self.input["now"] = datetime.now(tz=UTC)


class ChangesItsInput(BaseAction):
    """Gives SpoilsInput a reference, so that its resolved input is stored."""

    def plan(self) -> None:
        first = self.plan_action(Record, name="first")
        self.plan_action(SpoilsInput, of=first.output["value"])


class AsyncPlan(BaseAction):
    """Plans in a coroutine."""

    async def plan(self) -> None:  # type: ignore[override] # the mistake
        self.plan_action(Record, name="never")


class GeneratorPlan(BaseAction):
    """Plans in a generator."""

    def plan(self) -> Iterator[int]:  # type: ignore[override] # the mistake
        yield 1


class TestsAReference(BaseAction):
    """Branches on what is not known yet."""

    __test__ = False

    def plan(self) -> None:
        if self.plan_action(Record, name="first").output["value"]:
            self.plan_action(Record, name="second")


class WaitsForGo(BaseAction):
    """Waits without a thread until the journal says go."""

    async def run(self) -> None:
        while "go" not in Journal().lines:
            await asyncio.sleep(0.02)


class WaitersAndWorkers(BaseAction):
    """Coroutines that wait, and blocking steps."""

    def plan(self, waiters: int, workers: int) -> None:
        for number in range(workers):
            self.plan_action(Record, name=str(number))
        for _ in range(waiters):
            self.plan_action(WaitsForGo)


class BlocksUntilGo(BaseAction):
    """Keeps its thread until the journal says go."""

    def run(self) -> None:
        wait_until(lambda: "go" in Journal().lines, describe="go")


class BlockersFirst(BaseAction):
    """Steps that block, and behind them steps that do not."""

    def plan(self, blockers: int, workers: int) -> None:
        for _ in range(blockers):
            self.plan_action(BlocksUntilGo)
        for number in range(workers):
            self.plan_action(Record, name=str(number))
