"""Advance: start plans, and decide what comes next for plans whose steps have all settled.

Works on many plans at once, with a fixed number of statements, in the transaction of the caller, who checked the term.
Plans that changed or vanished meanwhile are left out: their rows no longer say what was expected.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from django.db import transaction
from django.db.models import Count, F
from django.db.models.functions import Now

from dynflow_app import probes
from dynflow_app.engine.director import Decision, Verdict, decide
from dynflow_app.ledger import ending, skipping
from dynflow_app.ledger.releasing import adjust_active, make_finalize_ready, release_frontier
from dynflow_app.models import ExecutionPlan, Step
from dynflow_app.models.base import is_outage, ledger_alias
from dynflow_app.orchestrator import starting
from dynflow_app.orchestrator.rescue import Failed, failed_steps, find_out
from dynflow_app.planning import copying
from dynflow_app.states import COUNTED_PHASES, Phase, PlanResult, PlanState, StepState


@dataclass(slots=True)
class Advanced:
    """What happened to a batch of plans."""

    ready: Counter[str] = field(default_factory=Counter)
    """Queue to the number of steps that became ready."""
    limits: set[str] = field(default_factory=set)
    """Keys of limits that hold steps that were released; to be admitted at the end of the transaction."""
    settled: dict[UUID, Decision] = field(default_factory=dict)
    """Plans that stopped or paused."""


def start(plan_ids: Collection[UUID]) -> Advanced:
    """Start plans that may: workers plan those that are scheduled, and the first steps of the others become ready.
    Those without run steps are decided at once. Plans that have to wait for others are marked so."""
    advanced = Advanced()
    if not _lock(plan_ids):
        return advanced
    due = starting.sort_out(plan_ids)
    refused = due.late
    if due.late:
        advanced.ready += starting.end_late(due.late)
    if due.scheduled:
        waiting, unwanted, ready = starting.end_refused(due.scheduled)
        if singletons := set(due.singletons) - waiting - set(unwanted):
            doubles, hooks = starting.end_doubles(singletons)
            unwanted, ready = unwanted + doubles, ready + hooks
        advanced.ready += ready + starting.begin_planning(set(due.scheduled) - waiting - set(unwanted))
        ExecutionPlan.objects.filter(id__in=waiting).update(is_waiting=True)
        refused += unwanted
    advanced.settled = dict.fromkeys(refused, Decision(Verdict.STOP, PlanResult.ERROR))
    _start_planned(due, advanced)
    return advanced


def _start_planned(due: starting.Due, advanced: Advanced) -> None:
    plan_ids = set(due.planned)
    if due.locking:
        held_back, results, ready = starting.take_locks(due.locking)
        plan_ids -= held_back
        advanced.ready += ready
        advanced.settled |= {plan_id: Decision(Verdict.STOP, result) for plan_id, result in results.items()}
    if not plan_ids:
        return
    ExecutionPlan.objects.filter(id__in=plan_ids).transition(
        [PlanState.PLANNED], PlanState.RUNNING, started_at=Now(), is_waiting=False, revision=F("revision") + 1
    )
    released = release_frontier(plan_ids)
    adjust_active(released.by_plan)
    advanced.ready += released.by_queue
    advanced.limits |= released.limits
    _settle_running([plan_id for plan_id in plan_ids if not released.by_plan[plan_id]], advanced)


def settle(plan_ids: Collection[UUID]) -> Advanced:
    """Decide about plans of which no step is active: running ones, and those that a worker has planned, or could
    not."""
    advanced = Advanced()
    if not _lock(plan_ids):
        return advanced
    quiet: defaultdict[str, list[UUID]] = defaultdict(list)
    plans = ExecutionPlan.objects.filter(id__in=plan_ids, active_steps=0)
    for plan_id, state in plans.values_list("id", "state"):
        quiet[state].append(plan_id)
    if unplanned := quiet[PlanState.PLANNING]:
        results, advanced.ready = starting.end_unplanned(unplanned)
        advanced.settled = {plan_id: Decision(Verdict.STOP, result) for plan_id, result in results.items()}
    if planned := quiet[PlanState.PLANNED]:  # by a worker, just now
        _start_planned(starting.sort_out(planned), advanced)
    _settle_running(quiet[PlanState.RUNNING], advanced)
    return advanced


def _settle_running(quiet: list[UUID], advanced: Advanced) -> None:
    while quiet:  # what was decided may bring a plan to rest again at once
        quiet = _decide(quiet, advanced)


def _decide(plan_ids: Collection[UUID], advanced: Advanced) -> list[UUID]:
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
                ready, decided = find_out({plan_id: failed[plan_id] for plan_id in ids})
                advanced.ready += ready
                again += decided
            case Verdict.SKIP:
                again += _skip(ids, failed, advanced)
            case _:
                _apply(decision, ids, advanced)
    return again


def _skip(plan_ids: list[UUID], failed: Mapping[UUID, Sequence[Failed]], advanced: Advanced) -> list[UUID]:
    """Returns the plans in which nothing became active by it."""
    quiet = []
    for plan_id in plan_ids:
        steps = Step.objects.filter(id__in=[each.step_id for each in failed[plan_id]]).select_related("action")
        changed = skipping.begin(list(steps), [plan_id])
        advanced.ready += changed.ready
        advanced.limits |= changed.limits
        if changed.active[plan_id]:
            adjust_active(changed.active)
        else:
            quiet.append(plan_id)
    return quiet


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


def _apply(decision: Decision, plan_ids: list[UUID], advanced: Advanced) -> None:
    match decision.verdict:
        case Verdict.WAIT:  # a step became active after all: whoever ends it sends another envelope
            return
        case Verdict.FINALIZE:
            advanced.ready += make_finalize_ready(plan_ids)[0]
            return
        case Verdict.PAUSE:
            advanced.ready += ending.pause(plan_ids, decision.result)
        case Verdict.CANCEL:
            ending.cancel_rest(plan_ids)
            advanced.ready += ending.stop(plan_ids, decision.result)
        case Verdict.REVERT:
            advanced.ready += ending.stop(plan_ids, decision.result)
            for plan in ExecutionPlan.objects.filter(id__in=plan_ids):
                copying.reverse(plan, triggered_by="rescue")
        case Verdict.STOP:
            advanced.ready += ending.stop(plan_ids, decision.result)
    advanced.settled.update(dict.fromkeys(plan_ids, decision))


def quarantine(plan_id: UUID, error: dict[str, object]) -> Counter[str]:
    """Take a plan that cannot be advanced out of the way, with the error on it; the others go on.

    Returns queue to number of hook steps, and of steps that go on because this one came to rest.
    """
    _lock([plan_id])
    plans = ExecutionPlan.objects.filter(id=plan_id)
    plans.exclude(state__in=(PlanState.PAUSED, PlanState.STOPPED)).update(error=error)
    is_running = plans.filter(state=PlanState.RUNNING).exists()
    before = [PlanState.SCHEDULED, PlanState.PLANNING, PlanState.PLANNED]
    try:
        with transaction.atomic(using=ledger_alias()):
            if is_running:
                return ending.pause([plan_id])
            return ending.stop(list(plans.filter(state__in=before).values_list("id", flat=True)), PlanResult.ERROR)
    except Exception as another:
        if is_outage(another):
            raise
        # What makes it poison is in the way even of that; so without a word to anybody.
        plans.transition([PlanState.RUNNING], PlanState.PAUSED, result=PlanResult.ERROR)
        plans.transition(before, PlanState.STOPPED, result=PlanResult.ERROR, ended_at=Now())
        return Counter()
