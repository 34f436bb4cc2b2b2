"""Duty: find what lost doorbells and accidents left behind. A healthy system has nothing for it."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import Exists, OuterRef

from dynflow_app.ledger import forgotten, limits, sub_plans
from dynflow_app.ledger.concluding import conclude, ring
from dynflow_app.ledger.effects import Effects
from dynflow_app.models import Envelope, ExecutionPlan, Term, Ticket
from dynflow_app.orchestrator import unlocking
from dynflow_app.states import WAITING_PLAN_STATES, PlanState

BATCH = 500


@dataclass(slots=True)
class Swept:
    """What one pass found."""

    rung: int = 0
    plans: int = 0
    admitted: int = 0
    locks: int = 0
    """Plans whose locks nobody unlocked, or that nobody gave theirs."""


def run_once(term: Term) -> Swept:
    """Ring again for ready steps that nobody claims; write the missing envelope of plans that nobody decides about.

    An idle system is asked once whether there is anything to do.
    """
    left = forgotten.look()
    swept = Swept()
    if not any(left):
        return swept
    effects = Effects()
    if left.has_ready:
        swept.rung = len(queues := Ticket.objects.queues())
        effects.ready.update(queues)
    with term.transaction():
        if left.has_waiting_parents:
            sub_plans.wake_forgotten(effects)
        if left.has_live:
            swept.plans = _address_forgotten(effects)
        if left.has_throttled:
            effects.limits.update(limits.keys_with_room())
        if left.has_locks:
            swept.locks = unlocking.mend(BATCH)
        before = effects.ready.total()
        conclude(effects)
        swept.admitted = effects.ready.total() - before
    ring(effects)
    return swept


def _address_forgotten(effects: Effects) -> int:
    quiet = ExecutionPlan.objects.live().filter(active_steps=0, is_frozen=False, is_waiting=False)
    quiet = quiet.exclude(state=PlanState.PAUSED)
    unaddressed = quiet.exclude(Exists(Envelope.objects.filter(plan=OuterRef("pk")))).order_by("created_at")
    found = unaddressed.values_list("id", "state")[:BATCH]
    for plan_id, state in found:
        (effects.to_start if state in WAITING_PLAN_STATES else effects.to_decide).add(plan_id)
    return len(found)
