"""Advance: start plans, and decide what comes next for plans whose steps have all settled.

Works on many plans at once, with a fixed number of statements, in the transaction of the caller, who checked the term.
Plans that changed or vanished meanwhile are left out: their rows no longer say what was expected.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from uuid import UUID

from django.db.models import Count, F
from django.db.models.functions import Now

from dynflow_app import probes
from dynflow_app.engine.director import Decision, Verdict, decide
from dynflow_app.ledger.finalizing import make_finalize_ready
from dynflow_app.ledger.releasing import adjust_active, release_frontier
from dynflow_app.models import ExecutionPlan, Step
from dynflow_app.models.execution_plan import ExecutionPlanQuerySet
from dynflow_app.states import Phase, PlanResult, PlanState


@dataclass(slots=True)
class Advanced:
    """What happened to a batch of plans."""

    ready: Counter[str] = field(default_factory=Counter)
    """Queue to the number of steps that became ready."""
    settled: dict[UUID, Decision] = field(default_factory=dict)
    """Plans that stopped or paused."""


def start(plan_ids: Collection[UUID]) -> Advanced:
    """Start planned plans: their first steps become ready. Those without run steps are decided at once."""
    starting = list(_locked(plan_ids, PlanState.PLANNED).values_list("id", flat=True))
    if not starting:
        return Advanced()
    ExecutionPlan.objects.filter(id__in=starting).transition(
        [PlanState.PLANNED], PlanState.RUNNING, started_at=Now(), revision=F("revision") + 1
    )
    released = release_frontier(starting)
    adjust_active(released.by_plan)
    advanced = settle([plan_id for plan_id in starting if not released.by_plan[plan_id]])
    advanced.ready += released.by_queue
    return advanced


def settle(plan_ids: Collection[UUID]) -> Advanced:
    """Decide about running plans of which no step is active."""
    advanced = Advanced()
    quiet = list(_locked(plan_ids, PlanState.RUNNING).filter(active_steps=0).values_list("id", flat=True))
    if not quiet:
        return advanced
    by_decision: defaultdict[Decision, list[UUID]] = defaultdict(list)
    for plan_id, (run, finalize) in _count_steps(quiet).items():
        by_decision[decide(run, finalize)].append(plan_id)
    probes.reached(probes.Probe.DECISION_MADE)
    for decision, ids in by_decision.items():
        _apply(decision, ids, advanced)
    return advanced


def _locked(plan_ids: Collection[UUID], state: PlanState) -> ExecutionPlanQuerySet:
    plans = ExecutionPlan.objects.filter(id__in=plan_ids)
    list(plans.lock().values_list("id"))  # first the locks, then a read that sees what they waited for
    return plans.filter(state=state)


def _count_steps(plan_ids: Collection[UUID]) -> dict[UUID, tuple[dict[str, int], dict[str, int]]]:
    counts: dict[UUID, tuple[dict[str, int], dict[str, int]]] = {plan_id: ({}, {}) for plan_id in plan_ids}
    rows = Step.objects.filter(plan_id__in=plan_ids).order_by().values_list("plan_id", "phase", "state")
    for plan_id, phase, state, number in rows.annotate(number_of=Count("id")):
        counts[plan_id][phase == Phase.FINALIZE][state] = number
    return counts


def _apply(decision: Decision, plan_ids: list[UUID], advanced: Advanced) -> None:
    plans = ExecutionPlan.objects.filter(id__in=plan_ids)
    match decision.verdict:
        case Verdict.FINALIZE:
            advanced.ready += make_finalize_ready(plan_ids)
        case Verdict.PAUSE:
            plans.transition([PlanState.RUNNING], PlanState.PAUSED, result=decision.result, revision=F("revision") + 1)
            advanced.settled.update(dict.fromkeys(plan_ids, decision))
        case Verdict.STOP:
            plans.transition(
                [PlanState.RUNNING],
                PlanState.STOPPED,
                result=decision.result,
                ended_at=Now(),
                revision=F("revision") + 1,
            )
            advanced.settled.update(dict.fromkeys(plan_ids, decision))
        case Verdict.WAIT:  # a step became active after all: whoever ends it sends another envelope
            return


def quarantine(plan_id: UUID, error: dict[str, object]) -> None:
    """Take a plan that cannot be advanced out of the way, with the error on it; the others go on."""
    plans = ExecutionPlan.objects.filter(id=plan_id)
    plans.transition([PlanState.RUNNING], PlanState.PAUSED, result=PlanResult.ERROR, error=error)
    plans.transition([PlanState.PLANNED], PlanState.STOPPED, result=PlanResult.ERROR, error=error, ended_at=Now())
