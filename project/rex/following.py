"""Following a plan from the command line until it ends."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from django.db.models import Count

from dynflow_app import control
from dynflow_app.exceptions import WrongStateError
from dynflow_app.models import ExecutionPlan, Step
from dynflow_app.states import Phase, PlanState, StepState
from project.rex.presentation import Counts, ProgressDisplay

POLL_INTERVAL = 0.5
"""Seconds between two looks at the plan."""

REASON = "worker lost"


class FollowTimeoutError(Exception):
    """The plan has not ended in time; it goes on."""


class PlanStuckError(Exception):
    """The plan is paused for a reason that only an operator can deal with; the message says it."""


@dataclass
class Follower:
    """Watches one plan, shows its progress, and helps it over steps whose worker died.

    ``timeout`` is in seconds; ``None`` waits for ever.
    """

    plan: ExecutionPlan
    display: ProgressDisplay
    timeout: float | None = None
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def follow(self) -> None:
        """Return when the plan has stopped; it is fresh from the database then.

        Raises ``FollowTimeoutError``, or ``PlanStuckError`` if it is paused for another reason
        than a lost worker.
        """
        deadline = None if self.timeout is None else self.clock() + self.timeout
        while not self._has_stopped():
            if deadline is not None and self.clock() >= deadline:
                raise FollowTimeoutError
            self.sleep(POLL_INTERVAL)

    def _has_stopped(self) -> bool:
        self.plan.refresh_from_db()
        self.display.update(self._counts())
        if self.plan.state == PlanState.PAUSED:
            self._pass_over_lost_steps()
        return self.plan.state == PlanState.STOPPED

    def _counts(self) -> Counts:
        steps = self.plan.steps.filter(phase=Phase.RUN).order_by()
        states = Counter(dict(steps.values_list("state").annotate(Count("id"))))
        ended = states[StepState.SUCCESS] + states[StepState.SKIPPED] + states[StepState.CANCELLED]
        active = states[StepState.RUNNING] + states[StepState.SUSPENDED]
        return Counts(ended, active, states[StepState.ERROR], states.total())

    def _pass_over_lost_steps(self) -> None:
        """Skip the steps in error and resume; the hosts they stand for are *lost* in the report."""
        try:
            for step in self.plan.steps.filter(state=StepState.ERROR).select_related("action"):
                self._skip(step)
            control.resume(self.plan, reason=REASON)
        except WrongStateError:
            return  # somebody else did it first; the next look shows what came of it

    def _skip(self, step: Step) -> None:
        message = (step.error or {}).get("message") or "no reason is known"
        if step.phase != Phase.RUN:
            raise PlanStuckError(f"its report could not be written: {message}")
        control.skip(step, reason=REASON)
        self.display.note(f"{step.action.input['host']['name']} is lost, going on: {message}")
