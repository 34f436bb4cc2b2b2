"""`PollingAction`: starts something outside, and asks now and then how it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from dynflow_app.actions.base import BaseAction
from dynflow_app.messages import Event


class PollingAction(BaseAction, ABC):
    """Define `invoke`, `poll` and `is_done`. Between two polls the step is suspended: no thread waits.

    What `invoke` and `poll` return, the *task*, is JSON of your choice, such as the id and state of a job elsewhere.
    The latest is in ``self.output["task"]``; beside it ``polls`` and ``poll_failures`` are kept.

    If the process dies while `invoke` runs, its task is unknown, and resuming the step invokes again. Hand
    `step_key` to the other side, if that takes idempotency keys.

    An event sent to the step makes it poll at once.
    """

    poll_intervals: ClassVar[tuple[float, ...]] = (0.5, 1, 2, 4, 8, 16)
    """Seconds between polls; the last one repeats."""
    polls_per_interval: ClassVar[int] = 5
    """How many polls until the next interval; at least 1."""
    max_poll_failures: ClassVar[int] = 3
    """How many failed polls in a row fail the step; at least 1."""

    def __init_subclass__(cls, **kwargs: Any) -> None:  # whatever other bases accept
        if not cls.poll_intervals or min(cls.poll_intervals) < 0:
            raise ValueError(f"{cls.__name__}.poll_intervals: give one number of seconds or more, none below 0.")
        if cls.polls_per_interval < 1 or cls.max_poll_failures < 1:
            raise ValueError(f"{cls.__name__}: polls_per_interval and max_poll_failures are at least 1.")
        super().__init_subclass__(**kwargs)

    @abstractmethod
    def invoke(self) -> Any:  # any JSON
        """Start something outside; returns the task. An exception fails the step."""

    @abstractmethod
    def poll(self, task: Any) -> Any:  # any JSON
        """Ask how it is; returns the task as it is now.

        An exception is tolerated until there were `max_poll_failures` in a row. It is final if the step has just been
        retried or resumed: then `invoke` starts a fresh task.
        """

    @abstractmethod
    def is_done(self, task: Any) -> bool:
        """Whether there is nothing to wait for any more. Raise if it went wrong: that fails the step at once."""

    def poll_progress(self, task: Any) -> float | None:
        """How much is done, from 0 to 1; None (the default) if nobody knows."""
        return None

    def run(self, event: Event | None = None) -> None:
        """Invoke or poll; suspend unless it is done."""
        is_new = "task" not in self.output or not self._poll()
        if is_new:
            self.output.update(task=self.invoke(), polls=0, poll_failures=0)
        try:
            is_done = self._look()
        except Exception as error:
            if not is_new:
                raise
            # Raising would forget what has just been started. If the fault stays, the next poll fails with it.
            self.log(f"invoked, but cannot say whether it is done: {error!r}")
            is_done = False
        if not is_done:
            self.suspend(wake_after=self._interval())

    def _poll(self) -> bool:
        """Poll the recorded task; False if it has to be given up for a fresh one."""
        self.output["polls"] += 1
        try:
            self.output.update(task=self.poll(self.output["task"]), poll_failures=0)
        except Exception as error:
            self.log(f"poll failed: {error!r}")
            if not self.is_woken:
                return False
            self.output["poll_failures"] += 1
            if self.output["poll_failures"] >= self.max_poll_failures:
                raise
        return True

    def _look(self) -> bool:
        task = self.output["task"]
        done = self.poll_progress(task)
        if done is not None:
            self.progress(done)
        return self.is_done(task)

    def _interval(self) -> float:
        n: int = self.output["polls"] // self.polls_per_interval
        return self.poll_intervals[min(n, len(self.poll_intervals) - 1)]
