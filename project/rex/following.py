"""Following a plan from the command line until it ends."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from django.db.models import Count

from dynflow_app import control
from dynflow_app.models import ExecutionPlan, Step
from dynflow_app.models.execution_plan import ExecutionPlanQuerySet
from dynflow_app.states import ACTIVE_STEP_STATES, COUNTED_PHASES, Phase, PlanResult, PlanState, StepState
from project.rex.models import Report
from project.rex.presentation import Counts, ProgressDisplay

POLL_INTERVAL = 0.5
"""Seconds between two looks at the plan."""

REASON = "worker lost"
MOST_NOTED = 20
"""Lost hosts that are named; of more there is a number."""


class FollowTimeoutError(Exception):
    """The plan has not ended in time; it goes on."""


class PlanStuckError(Exception):
    """The plan is paused for a reason that only an operator can deal with; the message says it."""


@dataclass
class Follower:
    """Watches one plan and its sub-plans, shows their progress, and helps them over steps whose worker died.

    ``timeout`` is in seconds; ``None`` waits for ever.
    """

    plan: ExecutionPlan
    display: ProgressDisplay
    timeout: float | None = None
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def follow(self) -> None:
        """Return when the plan has stopped and its report is complete; it is fresh from the database then.

        Raises ``FollowTimeoutError``, or ``PlanStuckError`` if it is paused for another reason than lost workers.
        """
        deadline = None if self.timeout is None else self.clock() + self.timeout
        while not self._has_stopped():
            if deadline is not None and self.clock() >= deadline:
                raise FollowTimeoutError
            self.sleep(POLL_INTERVAL)

    def _has_stopped(self) -> bool:
        self.plan.refresh_from_db()
        counts = self._counts()
        self.display.update(counts)
        if self.plan.state == PlanState.STOPPED:  # the hook of a cancelled plan completes the report
            return not self.plan.steps.filter(phase=Phase.HOOK, state__in=ACTIVE_STEP_STATES).exists()
        if counts.in_error:
            self._pass_over_lost_hosts()
        elif self.plan.state == PlanState.PAUSED:
            self._resume()
        return False

    @property
    def _sub_plans(self) -> ExecutionPlanQuerySet:
        return ExecutionPlan.objects.filter(parent_step__plan=self.plan, position__isnull=False)

    @cached_property
    def _total(self) -> int:
        entry = self.plan.actions.get(number=1)
        return Report.objects.filter(pk=entry.input["report"]).values_list("hosts", flat=True).first() or 0

    def _counts(self) -> Counts:
        """Sub-plans by what becomes of them; those that wait for a worker are neither active nor ended."""
        plans = Counter(dict(self._sub_plans.order_by().values_list("state").annotate(Count("id"))))
        busy = Step.objects.filter(
            plan__parent_step__plan=self.plan,
            plan__position__isnull=False,
            phase=Phase.RUN,
            state__in=(StepState.RUNNING, StepState.SUSPENDED),
        )
        return Counts(plans[PlanState.STOPPED], busy.count(), plans[PlanState.PAUSED], self._total)

    def _pass_over_lost_hosts(self) -> None:
        """Skip the steps in error and resume their sub-plans; the hosts are *lost* in the report."""
        paused = self._sub_plans.filter(state=PlanState.PAUSED)
        failed = Step.objects.filter(plan__in=paused, state=StepState.ERROR, phase__in=COUNTED_PHASES)
        self._require_run(failed.exclude(phase=Phase.RUN).first())
        lost = list(failed.order_by("plan__position").values_list("pk", "plan__label", "error"))
        control.in_bulk(control.skip, Step.objects.filter(pk__in=[key for key, _, _ in lost]), reason=REASON)
        # A sub-plan that paused after that look has a step in error, which must not run again unasked.
        control.in_bulk(control.resume, paused.exclude(steps__in=failed), reason=REASON)
        for _, host, error in lost[:MOST_NOTED]:
            self.display.note(f"{host} is lost, going on: {_message(error)}")
        if len(lost) > MOST_NOTED:
            self.display.note(f"{len(lost) - MOST_NOTED} more are lost, going on")

    def _resume(self) -> None:
        """All hosts have ended or are passed over, so the plan has only to be told."""
        failed = self.plan.steps.filter(state=StepState.ERROR, phase__in=COUNTED_PHASES).first()
        self._require_run(failed)
        broken = self._sub_plans.filter(state=PlanState.STOPPED, result=PlanResult.ERROR)
        if failed is not None and "SubPlansFailedError" not in (failed.error or {}).get("class", ""):
            raise PlanStuckError(_message(failed.error))
        if (first := broken.order_by("position").first()) is not None:
            raise PlanStuckError(f"{broken.count()} hosts could not be planned, {first.label}: {_message(first.error)}")
        control.in_bulk(control.resume, ExecutionPlan.objects.filter(pk=self.plan.pk), reason=REASON)

    def _require_run(self, failed: Step | None) -> None:
        if failed is not None and failed.phase != Phase.RUN:
            raise PlanStuckError(f"its report could not be written: {_message(failed.error)}")


def _message(error: dict[str, str] | None) -> str:
    return (error or {}).get("message") or "no reason is known"
