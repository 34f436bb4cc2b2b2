"""Actions with limits."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from dynflow_app import BaseAction
from dynflow_app.actions.rate import Rate
from tests.support import wait_until
from tests.testapp.journal import Journal


class CallCloud(BaseAction):
    """At most three at once in a region. The first ones wait for each other, so they do run side by side."""

    concurrency_key = "cloud {region}"
    concurrency_limit = 3

    def run(self) -> None:
        Journal().write("start")
        wait_until(lambda: Journal().lines.count("start") >= 3, describe="three have started")
        Journal().do("end")


class CallClouds(BaseAction):
    """`width` calls side by side."""

    def plan(self, width: int, region: str) -> None:
        for number in range(width):
            self.plan_action(CallCloud, name=str(number), region=region)


class OneAtATime(BaseAction):
    """Records that it ran; one at once, whatever the input."""

    concurrency_limit = 1

    def run(self) -> None:
        Journal().do(f"run {self.input['name']}")


class OneUntilAnswered(OneAtATime):
    """As OneAtATime, but waits for an event without a thread in between. Shares the limit of that class."""

    concurrency_key = "tests.testapp.limited.OneAtATime"

    def run(self, event: Any = None) -> None:
        Journal().do(f"run {self.input['name']}")
        if event is None:
            self.suspend()


class Hourly(BaseAction):
    """Starts once an hour."""

    rate_limit = Rate(1, per=timedelta(hours=1))

    def run(self) -> None:
        Journal().do(f"run {self.input['name']}")


class Several(BaseAction):
    """Steps of `action` side by side, one for each of `names`."""

    def plan(self, action: type[BaseAction], names: str) -> None:
        for name in names:
            self.plan_action(action, name=name)


class LimitedByAnOutput(BaseAction):
    """Wants a key that nobody knows before it runs."""

    def plan(self) -> None:
        region = self.plan_action(OneAtATime, name="region").output["value"]
        self.plan_action(CallCloud, name="a", region=region)
