"""Duty: find what lost doorbells and accidents left behind. A healthy system has nothing for it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from django.db import transaction
from django.db.models import Count, Exists, OuterRef
from django.db.models.functions import Now

from dynflow_app import transport
from dynflow_app.conf import settings
from dynflow_app.ledger import limiting, sub_plans
from dynflow_app.messages import EnvelopeKind
from dynflow_app.models import Envelope, ExecutionPlan, ResourceLock, Step, SubPlans, Term
from dynflow_app.models.base import ledger_alias
from dynflow_app.orchestrator import unlocking
from dynflow_app.states import PlanState, StepState

BATCH = 500
_BEFORE_START = (PlanState.SCHEDULED, PlanState.PLANNED)


@dataclass(slots=True)
class Swept:
    """What one pass found."""

    rung: int = 0
    plans: int = 0
    admitted: int = 0
    locks: int = 0
    """Plans whose locks nobody released, or that nobody gave theirs."""


def run_once(term: Term) -> Swept:
    """Ring again for ready steps that nobody claims; write the missing envelope of plans that nobody decides about."""
    _wake_parents(term)
    return Swept(
        rung=_ring_again(), plans=_address_forgotten(term), admitted=_admit_again(term), locks=_mend_locks(term)
    )


def _ring_again() -> int:
    waiting = Step.objects.filter(
        state=StepState.READY, is_held=False, ready_at__lt=Now() - timedelta(seconds=settings.SWEEP_INTERVAL / 2)
    )
    by_queue = dict(waiting.order_by().values_list("queue").annotate(number_of=Count("id")))
    if by_queue:
        transport.get().ring_queues(by_queue)
    return sum(by_queue.values())


def _admit_again(term: Term) -> int:
    """Let limited steps pass that nobody let pass when it was their turn."""
    with transaction.atomic(using=ledger_alias()):
        term.check()
        admitted = limiting.admit(limiting.keys_with_held_steps())
    transport.get().ring_queues(admitted)
    return sum(admitted.values())


def _wake_parents(term: Term) -> None:
    """Let steps go on whose sub-plans somebody deleted."""
    if not SubPlans.objects.filter(wakes_below__isnull=False).exists():
        return
    with transaction.atomic(using=ledger_alias()):
        term.check()
        woken = sub_plans.wake_forgotten()
    transport.get().ring_queues(woken)


def _mend_locks(term: Term) -> int:
    """Write the missing envelopes of plans that keep others waiting, or wait, for nothing."""
    if not ResourceLock.objects.live().exists():
        return 0
    with transaction.atomic(using=ledger_alias()):
        term.check()
        return unlocking.mend(BATCH)


def _address_forgotten(term: Term) -> int:
    with transaction.atomic(using=ledger_alias()):
        term.check()
        quiet = ExecutionPlan.objects.filter(
            state__in=(PlanState.SCHEDULED, PlanState.PLANNING, PlanState.PLANNED, PlanState.RUNNING),
            active_steps=0,
            is_frozen=False,
            is_waiting=False,
        )
        unaddressed = quiet.exclude(Exists(Envelope.objects.filter(plan=OuterRef("pk")))).order_by("created_at")
        envelopes = [
            Envelope(
                plan_id=plan_id,
                kind=(EnvelopeKind.PLANNED if state in _BEFORE_START else EnvelopeKind.SETTLED).value,
            )
            for plan_id, state in unaddressed.values_list("id", "state")[:BATCH]
        ]
        Envelope.objects.bulk_create(envelopes)
    return len(envelopes)
