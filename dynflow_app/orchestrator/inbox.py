"""The inbox: reads envelopes in batches and acts on them; an envelope goes in the transaction that acts on it."""

from __future__ import annotations

from collections.abc import Sequence

from django.db import transaction

from dynflow_app import probes, transport
from dynflow_app.engine.director import Verdict
from dynflow_app.exceptions import LostLeadershipError
from dynflow_app.ledger.limiting import admit
from dynflow_app.messages import EnvelopeKind
from dynflow_app.models import Envelope, ExecutionPlan, Term
from dynflow_app.models.base import is_outage, ledger_alias
from dynflow_app.models.envelope import EnvelopeQuerySet
from dynflow_app.orchestrator import advance, family, unlocking
from dynflow_app.payloads.errors import describe
from dynflow_app.signals import announce, orchestration_failed, plan_settled
from dynflow_app.states import PlanState

BATCH = 500


def run_once(term: Term) -> int:
    """Act on the oldest envelopes; returns how many there were. Raises `LostLeadershipError`."""
    # An idle system asks this once a second, and needs no transaction for it.
    kinds = set(Envelope.objects.due().values_list("kind", flat=True)[:BATCH])
    acted = _decide(term) if kinds - family.KINDS else 0
    return acted + (_end_children(term) if kinds & family.KINDS else 0)


def _decide(term: Term) -> int:
    try:
        with transaction.atomic(using=ledger_alias()):
            term.check()
            envelopes = _decisions().take(BATCH)
            if not envelopes:
                return 0
            advanced = _act(envelopes)
    except Exception as error:  # one of the plans is poison: find it, keep the others going
        if isinstance(error, LostLeadershipError) or is_outage(error):
            raise
        return _act_singly(term)
    _committed(advanced)
    return len(envelopes)


def _decisions() -> EnvelopeQuerySet:
    return Envelope.objects.due().exclude(kind__in=family.KINDS)


def _end_children(term: Term) -> int:
    """One portion of sub-plans, in a transaction of its own: it locks plans, and must not have locked counts before."""
    with transaction.atomic(using=ledger_alias()):
        term.check()
        envelopes = Envelope.objects.due().filter(kind__in=family.KINDS).take(1)
        probes.reached(probes.Probe.ENVELOPES_TAKEN)
        for envelope in envelopes:
            envelope.delete()
            family.end_children(envelope)
    return len(envelopes)


def _act(envelopes: Sequence[Envelope]) -> advance.Advanced:
    probes.reached(probes.Probe.ENVELOPES_TAKEN)
    Envelope.objects.filter(id__in=[envelope.pk for envelope in envelopes]).delete()
    _release(envelopes)  # first: what a plan that has stopped still holds must not refuse one that is to start
    advanced = advance.start({each.plan_id for each in envelopes if each.kind == EnvelopeKind.PLANNED.value})
    settled = advance.settle({each.plan_id for each in envelopes if each.kind == EnvelopeKind.SETTLED.value})
    advanced.ready += settled.ready
    advanced.settled |= settled.settled
    advanced.ready += admit(advanced.limits | settled.limits)
    return advanced


def _release(envelopes: Sequence[Envelope]) -> None:
    released = {each.plan_id for each in envelopes if each.kind == EnvelopeKind.RELEASED.value}
    if released:  # plans before their locks, as workers do
        list(ExecutionPlan.objects.filter(id__in={each.plan_id for each in envelopes}).lock().values_list("id"))
        unlocking.release(released)


def _act_singly(term: Term) -> int:
    envelopes = list(_decisions()[:BATCH])
    for envelope in envelopes:
        try:
            with transaction.atomic(using=ledger_alias()):
                term.check()
                advanced = _act([envelope])
        except Exception as error:
            if isinstance(error, LostLeadershipError) or is_outage(error):
                raise
            _set_aside(term, envelope, error)
        else:
            _committed(advanced)
    return len(envelopes)


def _set_aside(term: Term, envelope: Envelope, error: Exception) -> None:
    with transaction.atomic(using=ledger_alias()):
        term.check()
        Envelope.objects.filter(pk=envelope.pk).delete()
        ready = advance.quarantine(envelope.plan_id, describe(error))
    transport.get().ring_queues(ready)
    announce(orchestration_failed, ExecutionPlan, plan_id=envelope.plan_id, error=error)


def _committed(advanced: advance.Advanced) -> None:
    probes.reached(probes.Probe.DECISION_COMMITTED)
    transport.get().ring_queues(advanced.ready)
    for plan_id, decision in advanced.settled.items():
        state = PlanState.PAUSED if decision.verdict is Verdict.PAUSE else PlanState.STOPPED
        announce(plan_settled, ExecutionPlan, plan_id=plan_id, state=state.value, result=decision.result.value)
