"""Advance: start plans, and decide what comes next for plans whose steps have all settled.

Works on many plans at once, with a fixed number of statements, in the transaction of the caller, who checked the term
and concludes the effects. Plans that changed or vanished meanwhile are left out: their rows no longer say what was
expected.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from uuid import UUID

from django.db import transaction
from django.db.models import Count

from dynflow_app import probes
from dynflow_app.engine.director import Decision, Verdict, decide
from dynflow_app.ledger import ending, skipping
from dynflow_app.ledger.effects import Effects
from dynflow_app.ledger.finalizing import begin_finalize
from dynflow_app.ledger.releasing import release_frontier
from dynflow_app.models import ExecutionPlan, Step
from dynflow_app.models.base import is_outage, ledger_alias
from dynflow_app.orchestrator import starting
from dynflow_app.orchestrator.rescue import Failed, failed_steps, find_out
from dynflow_app.planning import copying
from dynflow_app.states import (
    COUNTED_PHASES,
    RESTING_PLAN_STATES,
    WAITING_PLAN_STATES,
    Phase,
    PlanResult,
    PlanState,
    StepState,
)


def start(plan_ids: Collection[UUID], effects: Effects) -> None:
    """Start plans that may: workers plan those that are scheduled, and the first steps of the others become ready.
    Those without run steps are decided at once. Plans that have to wait for others are marked so."""
    if not _lock(plan_ids):
        return
    due = starting.sort_out(plan_ids)
    starting.end_late(due.late, effects)
    if due.scheduled:
        waiting = starting.end_refused(due.scheduled, effects)
        left = set(due.scheduled) - waiting - effects.settled.keys()
        starting.end_doubles(left.intersection(due.singletons), effects)
        starting.begin_planning(left - effects.settled.keys(), effects)
        ExecutionPlan.objects.filter(id__in=waiting).update(is_waiting=True)
    _start_planned(due, effects)


def _start_planned(due: starting.Due, effects: Effects) -> None:
    plan_ids = set(due.planned)
    if due.locking:
        plan_ids -= starting.take_locks(due.locking, effects)
    if plan_ids:
        ExecutionPlan.objects.filter(id__in=plan_ids).start()
        started = release_frontier(plan_ids, effects)
        _settle_running([plan_id for plan_id in plan_ids if plan_id not in started], effects)


def settle(plan_ids: Collection[UUID], effects: Effects) -> None:
    """Decide about plans of which no step is active: running ones, and those that a worker has planned, or could
    not."""
    if not _lock(plan_ids):
        return
    quiet: defaultdict[str, list[UUID]] = defaultdict(list)
    plans = ExecutionPlan.objects.filter(id__in=plan_ids, active_steps=0)
    for plan_id, state in plans.values_list("id", "state"):
        if not effects.active[plan_id]:  # nothing became active in this very transaction
            quiet[state].append(plan_id)
    starting.end_unplanned(quiet[PlanState.PLANNING], effects)
    if planned := quiet[PlanState.PLANNED]:  # by a worker, just now
        _start_planned(starting.sort_out(planned), effects)
    _settle_running(quiet[PlanState.RUNNING], effects)


def _settle_running(quiet: list[UUID], effects: Effects) -> None:
    while quiet:  # what was decided may bring a plan to rest again at once
        quiet = _decide(quiet, effects)


def _decide(plan_ids: Collection[UUID], effects: Effects) -> list[UUID]:
    """Decide about these plans and apply it; returns those that need another decision."""
    by_decision: defaultdict[Decision, list[UUID]] = defaultdict(list)
    counts = _count_steps(plan_ids)
    failing = [plan_id for plan_id, phases in counts.items() if any(each.get(StepState.ERROR) for each in phases)]
    failed = failed_steps(failing) if failing else {}
    for plan_id, (run, finalize) in counts.items():
        by_decision[decide(run, finalize, [step.rescue for step in failed.get(plan_id, ())])].append(plan_id)
    probes.reached(probes.Probe.DECISION_MADE)
    again: list[UUID] = []
    for decision, ids in by_decision.items():
        match decision.verdict:
            case Verdict.RESCUE:
                again += find_out({plan_id: failed[plan_id] for plan_id in ids}, effects)
            case Verdict.SKIP:
                again += _skip(ids, failed, effects)
            case _:
                _apply(decision, ids, effects)
    return again


def _skip(plan_ids: list[UUID], failed: Mapping[UUID, Sequence[Failed]], effects: Effects) -> list[UUID]:
    """Returns the plans in which nothing became active by it."""
    for plan_id in plan_ids:
        steps = Step.objects.filter(id__in=[each.step_id for each in failed[plan_id]]).select_related("action")
        skipping.begin(list(steps), [plan_id], effects)
    return [plan_id for plan_id in plan_ids if not effects.active[plan_id]]


def _lock(plan_ids: Collection[UUID]) -> bool:
    """Take the plans' locks first, so that what is read then is what they waited for."""
    return bool(plan_ids) and bool(list(ExecutionPlan.objects.filter(id__in=plan_ids).lock().values_list("id")))


def _count_steps(plan_ids: Collection[UUID]) -> dict[UUID, tuple[dict[str, int], dict[str, int]]]:
    counts: dict[UUID, tuple[dict[str, int], dict[str, int]]] = {plan_id: ({}, {}) for plan_id in plan_ids}
    steps = Step.objects.filter(plan_id__in=plan_ids, phase__in=COUNTED_PHASES).order_by()
    rows = steps.values_list("plan_id", "phase", "state")
    for plan_id, phase, state, number in rows.annotate(number_of=Count("id")):
        counts[plan_id][phase == Phase.FINALIZE][state] = number
    return counts


def _apply(decision: Decision, plan_ids: list[UUID], effects: Effects) -> None:
    match decision.verdict:
        case Verdict.WAIT:  # a step became active after all: whoever ends it sends another envelope
            return
        case Verdict.FINALIZE:
            begin_finalize(plan_ids, effects)
        case Verdict.PAUSE:
            ending.pause(plan_ids, decision.result, effects)
        case Verdict.CANCEL:
            ending.cancel_rest(plan_ids)
            ending.stop(plan_ids, decision.result, effects)
        case Verdict.REVERT:
            ending.stop(plan_ids, decision.result, effects)
            for plan in ExecutionPlan.objects.filter(id__in=plan_ids):
                copying.reverse(plan, triggered_by="rescue")
        case Verdict.STOP:
            ending.stop(plan_ids, decision.result, effects)


def quarantine(plan_id: UUID, error: dict[str, object], effects: Effects) -> None:
    """Take a plan that cannot be advanced out of the way, with the error on it; the others go on."""
    _lock([plan_id])
    plans = ExecutionPlan.objects.filter(id=plan_id)
    plans.exclude(state__in=RESTING_PLAN_STATES).update(error=error)
    is_running = plans.filter(state=PlanState.RUNNING).exists()
    before = [*WAITING_PLAN_STATES, PlanState.PLANNING]
    try:
        with transaction.atomic(using=ledger_alias()):
            if is_running:
                ending.pause([plan_id], PlanResult.ERROR, effects)
            else:
                waiting = list(plans.filter(state__in=before).values_list("id", flat=True))
                ending.stop(waiting, PlanResult.ERROR, effects)
    except Exception as another:
        if is_outage(another):
            raise
        # What makes it poison is in the way even of that; so without a word to anybody.
        plans.pause(PlanResult.ERROR)
        plans.stop(PlanResult.ERROR, before)
