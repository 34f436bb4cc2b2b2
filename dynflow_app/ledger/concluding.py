"""Concluding: the one way out of a transaction that changed steps or plans.

The whole order of locks, wherever they are taken:

1. the leader's term (shared),
2. schedules, by key,
3. plans, by key,
4. rows that count sub-plans, by key of their step,
5. steps, gates and tickets, each only under the lock of its plan,
6. limits, by key, and after each the tickets and steps that it lets pass; what others have locked is passed over.

Claims and alarms do not ask for the plan: a claim takes tickets and then their steps, an alarm takes one suspended
step, which has no ticket. So whoever takes a step that is ready takes its ticket first (`steps.cancel` and the like).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from uuid import UUID

from django.db import transaction
from django.db.models import Q

from dynflow_app import transport
from dynflow_app.ledger import ending
from dynflow_app.ledger.counting import Quiet, count_active
from dynflow_app.ledger.effects import Effects
from dynflow_app.ledger.finalizing import begin_finalize
from dynflow_app.ledger.limits import admit
from dynflow_app.messages import EnvelopeKind
from dynflow_app.models import Envelope, ExecutionPlan, Prerequisite, Step
from dynflow_app.models.base import ledger_alias
from dynflow_app.signals import announce, events_dropped, outcome_refused, plan_settled, step_failed
from dynflow_app.states import COUNTED_PHASES, Phase, PlanResult, PlanState, StepState


def conclude(effects: Effects) -> Effects:
    """Do what follows, in the caller's transaction, which holds the locks of all plans concerned; returns `effects`.

    Counts active steps. Plans that have none any more go on to their finalize phase, or stop, if all went well and
    nobody has to be asked; about the others the orchestrator decides. Limited steps are admitted last.
    """
    while quiet := count_active(effects):
        _go_on(quiet, effects)
    _write_envelopes(effects)
    if effects.limits:
        admitted, is_later = admit(effects.limits)
        effects.ready += admitted
        effects.rings_orchestrator |= is_later
        effects.limits.clear()
    return effects


def ring(effects: Effects) -> None:
    """After the commit: let workers and the orchestrator know."""
    bell = transport.get()
    if ready := +effects.ready:
        bell.ring_queues(ready)
    if effects.rings_orchestrator:
        bell.ring_orchestrator()


def ring_after_commit(effects: Effects) -> None:
    """Let workers and the orchestrator know as soon as the caller's transaction is committed."""

    def tell() -> None:
        ring(effects)
        announce_effects(effects)

    transaction.on_commit(tell, using=ledger_alias(), robust=True)


def announce_effects(effects: Effects) -> None:
    """After the commit: send the signals."""
    for outcome in effects.refused:
        announce(outcome_refused, Step, step_id=outcome.step_id, attempt=outcome.attempt)
    for step_id, number in effects.dropped.items():
        announce(events_dropped, Step, step_id=step_id, number=number)
    for outcome in effects.failed:
        message = (outcome.error or {}).get("message", "")
        announce(
            step_failed, Step, plan_id=outcome.plan_id, step_id=outcome.step_id, attempt=outcome.attempt,
            message=message,
        )  # fmt: skip
    for plan_id, (state, result) in effects.settled.items():
        announce(plan_settled, ExecutionPlan, plan_id=plan_id, state=state.value, result=result.value)


# --- plans without active steps ------------------------------------------------------------------------------------


def _go_on(quiet: Collection[Quiet], effects: Effects) -> None:
    """Plans that went well so far go on to what comes next; what is left goes to the orchestrator."""
    well = _that_went_well([plan for plan in quiet if plan.state == PlanState.RUNNING])
    finalizing = begin_finalize([plan.id for plan in well if plan.has_finalize], effects)
    over = {plan.id for plan in well if plan.is_simple} - finalizing
    ending.stop(over - _awaited(over), PlanResult.SUCCESS, effects)
    effects.to_decide |= {plan.id for plan in quiet} - finalizing - effects.settled.keys()


def _that_went_well(plans: Collection[Quiet]) -> list[Quiet]:
    """Those of these plans whose flow has succeeded to its end, and of whose finalize phase nothing has failed."""
    if not plans:
        return []
    steps = Step.objects.filter(plan__in=[plan.id for plan in plans], phase__in=COUNTED_PHASES)
    waits_to_finalize = Q(phase=Phase.FINALIZE, state=StepState.PENDING)
    others = set(
        steps.exclude(Q(state=StepState.SUCCESS) | waits_to_finalize).values_list("plan_id", flat=True).distinct()
    )
    return [plan for plan in plans if plan.id not in others]


def _awaited(plan_ids: Collection[UUID]) -> set[UUID]:
    """Those of these plans that others wait for."""
    if not plan_ids:
        return set()
    return set(Prerequisite.objects.filter(after__in=plan_ids).values_list("after", flat=True))


# --- the orchestrator's inbox ------------------------------------------------------------------------------------


def _write_envelopes(effects: Effects) -> None:
    letters = (
        (EnvelopeKind.SETTLED, effects.to_decide),
        (EnvelopeKind.PLANNED, effects.to_start),
        (EnvelopeKind.UNLOCK, effects.to_unlock),
    )
    for kind, plan_ids in letters:
        if plan_ids:
            Envelope.objects.send(kind, plan_ids)
            effects.rings_orchestrator = True
            plan_ids.clear()
    if effects.rested:
        _tally(effects)


def _tally(effects: Effects) -> None:
    """Parents are told by the orchestrator: a row of theirs that each worker had to lock would make them queue."""
    by_step: defaultdict[int, dict[str, int]] = defaultdict(dict)
    for (step_id, result), number in effects.rested.items():
        by_step[step_id][result] = number
    plan_of: Iterable[tuple[int, UUID]] = Step.objects.filter(pk__in=by_step).values_list("pk", "plan_id")
    Envelope.objects.tally((plan_id, step_id, by_step[step_id]) for step_id, plan_id in plan_of)
    effects.rings_orchestrator = True
    effects.rested.clear()
