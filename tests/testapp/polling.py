"""Actions that wait for what happens elsewhere."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from dynflow_app import BaseAction, Event
from dynflow_app.actions.polling import PollingAction
from tests.testapp.journal import Journal


class Grow(PollingAction):
    """Starts tasks t1, t2, ... that are 10 % further at each poll."""

    poll_intervals = (10, 20, 40)

    def invoke(self) -> dict[str, Any]:
        name = f"t{1 + sum(line.startswith('invoke') for line in Journal().lines)}"
        Journal().do(f"invoke {name}")
        return {"name": name, "percent": 0}

    def poll(self, task: dict[str, Any]) -> dict[str, Any]:
        Journal().do(f"poll {task['name']}")
        return {**task, "percent": task["percent"] + 10}

    def is_done(self, task: dict[str, Any]) -> bool:
        return bool(task["percent"] >= 100)

    def poll_progress(self, task: dict[str, Any]) -> float:
        return float(task["percent"] / 100)


class Stuck(Grow):
    """Starts tasks that never get any further."""

    timeout = timedelta(seconds=5)
    poll_intervals = (2,)

    def poll(self, task: dict[str, Any]) -> dict[str, Any]:
        Journal().do(f"poll {task['name']}")
        return task


class GrowAtUsualIntervals(Stuck):
    """Waits for ever, as long as the default intervals say."""

    timeout = None
    poll_intervals = PollingAction.poll_intervals


class DoneAtOnce(Grow):
    """What it starts has ended before anybody could ask."""

    def invoke(self) -> dict[str, Any]:
        return {**super().invoke(), "percent": 100}


class GrowJudged(Grow):
    """Can be told to fail when it looks at a task."""

    def is_done(self, task: dict[str, Any]) -> bool:
        Journal().do("judge")
        return super().is_done(task)


class WaitForCallback(BaseAction):
    """Hands out a callback URL and waits until somebody posts to it."""

    def run(self, event: Event | None = None) -> None:
        if event is None:
            Journal().write(self.callback_url("finished"))
            self.suspend()
        self.output.update(name=event.name, data=event.data)
