"""Parents and plans that make it hard for the engine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta

from dynflow_app import BaseAction, Retry, control
from dynflow_app.actions.sub_plans import SubPlan
from dynflow_app.models import ExecutionPlan
from tests.support import wait_until
from tests.testapp import many
from tests.testapp.journal import Journal


class PlansSlowly(BaseAction):
    """Plans until it may go on."""

    def plan(self) -> None:
        Journal().write("plans")
        wait_until(lambda: "go" in Journal().lines)
        self.plan_self()

    def run(self) -> None:
        Journal().write("ran")


class HaltsItself(BaseAction):
    """Pulls the rug from under itself."""

    def run(self) -> None:
        self.output["ran"] = True

    def finalize(self) -> None:
        control.halt(ExecutionPlan.objects.get(pk=self.plan_id))


class MakesSlowly(many.ParentOfWaiting):
    """Has not the time to make all."""

    batch_size = 1
    timeout = timedelta(seconds=1.2)

    def sub_plans(self, start: int, stop: int) -> Iterator[SubPlan]:
        time.sleep(0.7)
        yield from super().sub_plans(start, stop)


class HurriedAgain(many.HurriedParent):
    """Has a minute for each of three tries."""

    retry = Retry(attempts=3, delay=600, jitter=0)


class ParentAgain(many.Parent):
    """Is tried again if children fail."""

    retry = Retry(attempts=3, delay=600, jitter=0)


class Single(BaseAction):
    """One at a time."""

    singleton = True

    def run(self) -> None:
        self.output["ran"] = True


class ParentOfSingles(many.Parent):
    """Whose children cannot be beside one another."""

    child = Single
