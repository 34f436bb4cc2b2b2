"""Which plans may start, and what becomes of those that never will."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.db.models import Case, Q, When
from django.db.models.functions import Now

from dynflow_app.ledger import ending
from dynflow_app.ledger.effects import Effects
from dynflow_app.ledger.locking import active_singletons
from dynflow_app.ledger.steps import make_these_ready
from dynflow_app.models import Envelope, ExecutionPlan, Prerequisite, Step
from dynflow_app.orchestrator import granting
from dynflow_app.payloads.errors import as_error
from dynflow_app.states import WAITING_PLAN_STATES, Phase, PlanResult, PlanState, StepState


@dataclass(slots=True)
class Due:
    """Plans that the orchestrator was asked to start, by what is to be done with them."""

    scheduled: list[UUID] = field(default_factory=list)
    planned: list[UUID] = field(default_factory=list)
    late: list[UUID] = field(default_factory=list)
    locking: list[UUID] = field(default_factory=list)
    """Those of `planned` that need locks first."""
    singletons: list[UUID] = field(default_factory=list)
    """Those of `scheduled` of which only one of a kind may be active."""


def sort_out(plan_ids: Collection[UUID]) -> Due:
    """Those of these locked plans that nobody froze and whose time has come, or has passed. One statement."""
    due = Due()
    plans = ExecutionPlan.objects.filter(id__in=plan_ids, state__in=WAITING_PLAN_STATES)
    may_start = Case(When(Q(is_frozen=True) | Q(start_at__gt=Now()), then=False), default=True)
    has_not_begun = Q(state=PlanState.SCHEDULED) | Q(is_waiting=True)
    is_late = Case(When(has_not_begun, start_before__lte=Now(), then=True), default=False)
    rows = plans.annotate(may_start=may_start, is_late=is_late)
    fields = ("id", "state", "is_late", "may_start", "has_locks", "singleton")
    for plan_id, state, late, may, has_locks, singleton in rows.values_list(*fields):
        is_scheduled = state == PlanState.SCHEDULED
        if late:
            due.late.append(plan_id)
        elif may:
            (due.scheduled if is_scheduled else due.planned).append(plan_id)
            if has_locks and not is_scheduled:
                due.locking.append(plan_id)
            if singleton and is_scheduled:
                due.singletons.append(plan_id)
    return due


def end_late(plan_ids: Collection[UUID], effects: Effects) -> None:
    """Stop these locked plans, for whose start it is too late."""
    if not plan_ids:
        return
    times = ExecutionPlan.objects.filter(id__in=plan_ids).values_list("id", "start_before")
    errors = {
        plan_id: ("TooLate", f"Not started before {before:%Y-%m-%d %H:%M:%S %Z}, so it is too late.")
        for plan_id, before in times
    }
    _refuse(errors, effects)


def end_refused(plan_ids: Collection[UUID], effects: Effects) -> set[UUID]:
    """Stop those of these locked, scheduled plans whose prerequisites ended badly. Returns the plans that have to
    wait for theirs."""
    rows: Iterable[Any] = (
        Prerequisite.objects.filter(plan_id__in=plan_ids)
        .order_by("id")
        .values_list("plan_id", "after_id", "after__state", "after__result", "accepts")
    )
    waiting: set[UUID] = set()
    refusals: defaultdict[UUID, list[str]] = defaultdict(list)
    for plan_id, after, state, result, accepts in rows:
        if after is None:
            refusals[plan_id].append("a plan that was deleted")
        elif state != PlanState.STOPPED:
            waiting.add(plan_id)
        elif result not in accepts:
            refusals[plan_id].append(f"plan {after}, which ended with {result}")
    errors = {
        plan_id: ("PrerequisiteFailed", f"It was to start after {' and '.join(names)}.")
        for plan_id, names in refusals.items()
    }
    _refuse(errors, effects)
    return waiting - set(errors)


def end_doubles(plan_ids: Collection[UUID], effects: Effects) -> None:
    """Stop those of these locked, scheduled singletons of which another plan is active, or was first."""
    if not plan_ids:
        return
    plans = ExecutionPlan.objects.filter(id__in=plan_ids).order_by("id").values_list("id", "singleton")
    singletons = [(plan_id, str(singleton)) for plan_id, singleton in plans]
    found = active_singletons(singleton for _, singleton in singletons)
    errors = {}
    for plan_id, singleton in singletons:
        first = found.setdefault(singleton, plan_id)
        if first != plan_id:
            errors[plan_id] = ("AlreadyActive", f"Plan {first} of {singleton} is active, and only one may be.")
    _refuse(errors, effects)


def take_locks(plan_ids: Collection[UUID], effects: Effects) -> set[UUID]:
    """Give these locked, planned plans their locks, or a place in line. Returns the plans that may not start now."""
    granted = granting.grant(plan_ids)
    for result in {result for result, _why in granted.refused.values()}:
        whys = {plan_id: why for plan_id, (its, why) in granted.refused.items() if its == result}
        _refuse({plan_id: ("ResourceBusy", why) for plan_id, why in whys.items()}, effects, result)
    return granted.waits | granted.refused.keys()


def begin_planning(plan_ids: Collection[UUID], effects: Effects) -> None:
    """Let workers plan these locked, scheduled plans."""
    if not plan_ids:
        return
    ExecutionPlan.objects.filter(id__in=plan_ids).begin_planning()
    Envelope.objects.filter(plan_id__in=plan_ids).delete()  # that of the time after which it would be too late
    steps = Step.objects.filter(plan_id__in=plan_ids, phase=Phase.PLAN).values_list("pk", flat=True)
    effects.became_ready(make_these_ready(list(steps), frm=StepState.PENDING), is_new=True)


def end_unplanned(plan_ids: Collection[UUID], effects: Effects) -> None:
    """Stop these locked plans, whose plan step has ended without success."""
    steps = Step.objects.filter(plan_id__in=plan_ids, phase=Phase.PLAN) if plan_ids else Step.objects.none()
    for plan_id, state, error in steps.values_list("plan_id", "state", "error"):
        is_cancelled = state == StepState.CANCELLED
        ExecutionPlan.objects.filter(pk=plan_id).update(error=None if is_cancelled else error)
        ending.stop([plan_id], PlanResult.CANCELLED if is_cancelled else PlanResult.ERROR, effects)


def _refuse(errors: Mapping[UUID, tuple[str, str]], effects: Effects, result: PlanResult = PlanResult.ERROR) -> None:
    if not errors:
        return
    for plan_id, (kind, message) in errors.items():
        ExecutionPlan.objects.filter(pk=plan_id).update(error=as_error(kind, message))
    Envelope.objects.filter(plan_id__in=errors).delete()
    ending.cancel_rest(list(errors))
    ending.stop(list(errors), result, effects)
