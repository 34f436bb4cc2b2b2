"""Occurrences: what becomes of due times, and the plans that follow. Whoever acts has locked the schedules first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import OuterRef, Subquery

from dynflow_app.actions import registry
from dynflow_app.ledger.families import end_many
from dynflow_app.models import ExecutionPlan, Occurrence, Prerequisite, Schedule
from dynflow_app.models.schedule import KEPT_OCCURRENCES
from dynflow_app.planning import store_unplanned
from dynflow_app.states import OccurrenceOutcome, Overlap, PlanResult, PlanState, StopRequest

TRIM_EVERY = 100
"""Occurrences after which those that are too many are deleted."""


@dataclass(frozen=True, slots=True)
class LivePlan:
    """A plan that its schedule has to take into account."""

    id: UUID
    state: str


class Decisions:
    """What is decided about due times of some locked schedules. `store` writes it, with a few statements for all."""

    def __init__(self, schedules: Sequence[Schedule]) -> None:
        self._schedules = schedules
        self._live = _live_plans(schedules)
        self._made: list[tuple[ExecutionPlan, str, dict[str, Any]]] = []
        self._after: list[Prerequisite] = []
        self.occurrences: list[Occurrence] = []

    def fire(self, schedule: Schedule, due_at: datetime, *, by: str = "", reason: str = "") -> Occurrence:
        """Make a plan, unless an earlier one forbids it. `by` somebody; otherwise it is the schedule's own doing."""
        live = self._live[schedule.pk]
        if live and (objection := _objection(schedule, live)):
            return self.note(schedule, due_at, OccurrenceOutcome.SKIPPED, objection)
        plan = ExecutionPlan(
            action=schedule.action,
            label=schedule.label,
            schedule=schedule,
            singleton=schedule.action if getattr(registry.known(schedule.action), "singleton", False) else None,
            fairness_weight=getattr(registry.known(schedule.action), "fairness_weight", 1.0),
            triggered_by=(by or f"schedule {schedule}")[:255],
        )
        if schedule.overlap == Overlap.CANCEL:
            live = self._live[schedule.pk] = _cancelled(schedule, live)
        if schedule.overlap in (Overlap.QUEUE, Overlap.CANCEL):
            accepts = [str(result) for result in PlanResult]
            self._after += [Prerequisite(plan=plan, after_id=earlier.id, accepts=accepts) for earlier in live]
        live.append(LivePlan(plan.pk, PlanState.SCHEDULED))
        self._made.append((plan, schedule.queue, {"args": [], "kwargs": schedule.input}))
        if not by:
            schedule.fired += 1
        return self.note(schedule, due_at, OccurrenceOutcome.FIRED, reason, plan)

    def note(
        self, schedule: Schedule, due_at: datetime, outcome: OccurrenceOutcome, reason: str, plan: Any = None
    ) -> Occurrence:
        """Write down what became of a due time."""
        occurrence = Occurrence(schedule=schedule, due_at=due_at, outcome=outcome, reason=reason, plan=plan)
        self.occurrences.append(occurrence)
        schedule.decided += 1
        if schedule.decided % TRIM_EVERY == 0:
            self._trim(schedule)
        return occurrence

    def store(self) -> None:
        """Write plans and occurrences. Raises `IntegrityError` if one of the due times was decided about before. The
        schedules themselves are left to the caller."""
        store_unplanned(self._made)
        Prerequisite.objects.bulk_create(self._after)
        Occurrence.objects.bulk_create(self.occurrences)

    def _trim(self, schedule: Schedule) -> None:
        newest = Occurrence.objects.filter(schedule=OuterRef("schedule")).order_by("-due_at")
        limit = Subquery(newest.values("due_at")[KEPT_OCCURRENCES : KEPT_OCCURRENCES + 1])
        Occurrence.objects.filter(schedule=schedule, due_at__lte=limit).delete()


def _live_plans(schedules: Sequence[Schedule]) -> defaultdict[int, list[LivePlan]]:
    """Schedule to its plans that have not stopped; none where that makes no difference."""
    by_schedule: defaultdict[int, list[LivePlan]] = defaultdict(list)
    keys = {kind: [each.pk for each in schedules if each.overlap == kind] for kind in Overlap}
    live = ExecutionPlan.objects.filter(schedule__isnull=False).exclude(state=PlanState.STOPPED)
    if awaited := keys[Overlap.QUEUE] + keys[Overlap.CANCEL]:
        # Whoever stops one of them has its lock, and looks for who waits after that.
        list(live.filter(schedule__in=awaited).lock().values_list("id"))
    if considered := awaited + keys[Overlap.SKIP]:
        rows = live.filter(schedule__in=considered).order_by("id").values_list("schedule_id", "id", "state")
        for key, plan_id, state in rows:
            if key is not None:
                by_schedule[key].append(LivePlan(plan_id, state))
    return by_schedule


def _objection(schedule: Schedule, live: Sequence[LivePlan]) -> str:
    """Why these plans forbid another one; empty if they do not."""
    first = live[0]
    if schedule.overlap == Overlap.SKIP:
        remedy = ": resume or cancel it" if first.state == PlanState.PAUSED else ""
        return f"Plan {first.id} of this schedule is still {first.state}{remedy}."
    if schedule.overlap == Overlap.QUEUE and len(live) > 1:
        return f"Plan {live[-1].id} waits already until plan {first.id}, which is {first.state}, has stopped."
    return ""


def _cancelled(schedule: Schedule, live: Sequence[LivePlan]) -> list[LivePlan]:
    """Cancel these plans; returns those that have not stopped yet."""
    plan_ids = [each.id for each in live]
    end_many(plan_ids, StopRequest.CANCEL, by=f"schedule {schedule}", reason="the next occurrence is due")
    left = ExecutionPlan.objects.filter(pk__in=plan_ids).live().order_by("id").values_list("id", "state")
    return [LivePlan(plan_id, state) for plan_id, state in left]
