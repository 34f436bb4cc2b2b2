"""Actions that are told to end, and what they answer."""

from __future__ import annotations

import time
from datetime import timedelta

from dynflow_app import BaseAction, Cancel, Rescue
from tests.support import wait_until
from tests.testapp.journal import Journal


class ClosedUnderIt(BaseAction):
    """Works with something that is closed when it is told to end; then it fails with an ordinary error."""

    def run(self) -> None:
        Journal().write("run")
        try:
            while True:
                self.check_cancelled()
                time.sleep(0.01)
        except Cancel:
            raise ConnectionError("closed under me") from None


class ClosedOrFail(ClosedUnderIt):
    """As ClosedUnderIt; its failure stops the plan."""

    rescue_strategy = Rescue.FAIL


class ClosedOrRevert(ClosedUnderIt):
    """As ClosedUnderIt; its failure undoes the plan."""

    rescue_strategy = Rescue.REVERT


class FailsWhenAborted(BaseAction):
    """Turns whatever ends it into an ordinary error."""

    def run(self) -> None:
        Journal().write("run")
        try:
            while True:
                time.sleep(0.01)
        except BaseException:
            raise ConnectionError("closed under me") from None


class DeafAndSlow(BaseAction):
    """Takes no notice of a cancel, and has little time, which it exceeds by far."""

    timeout = timedelta(seconds=0.1)

    def run(self) -> None:
        Journal().write("run")
        until = time.monotonic() + 15
        while time.monotonic() < until:
            time.sleep(0.01)


class AsksForMore(BaseAction):
    """Waits in portions of ten seconds, a hundred altogether; declines to be cancelled, and to hurry."""

    timeout = timedelta(seconds=100)

    def run(self) -> None:
        self.suspend(timeout=10)

    def on_timeout(self) -> None:
        Journal().write("on_timeout")
        if Journal().lines.count("on_timeout") == 2:
            super().on_timeout()
        self.suspend()

    def cancel(self) -> None:
        Journal().write("cancel")
        self.suspend()


class FinalizesAfterGo(BaseAction):
    """Its finalize waits, and notices no cancel, until the journal says go."""

    def finalize(self) -> None:
        name = self.input["name"]
        Journal().write(f"begin {name}")
        wait_until(lambda: "go" in Journal().lines, describe="go")
        Journal().do(f"finalize {name}")


class TwoFinalizeAfterGo(BaseAction):
    """Two of them."""

    def plan(self) -> None:
        for name in "ab":
            self.plan_action(FinalizesAfterGo, name=name)


class Reports(BaseAction):
    """Says how far it is, once another one runs, and goes on until the journal says go."""

    def run(self) -> None:
        wait_until(lambda: "other" in Journal().lines, describe="the other one runs")
        self.progress(0.5)
        Journal().write("reported")
        wait_until(lambda: "go" in Journal().lines, describe="go")


class EndsAfterTheReport(BaseAction):
    """Ends when the other one has said how far it is."""

    def run(self) -> None:
        Journal().write("other")
        wait_until(lambda: "reported" in Journal().lines, describe="the other one reports")


class ReportsBeside(BaseAction):
    """Both."""

    def plan(self) -> None:
        self.plan_action(Reports)
        self.plan_action(EndsAfterTheReport)
