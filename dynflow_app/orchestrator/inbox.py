"""The inbox: reads envelopes in batches and acts on them; an envelope goes in the transaction that acts on it."""

from __future__ import annotations

from collections.abc import Sequence

from dynflow_app import clock, probes
from dynflow_app.exceptions import LostLeadershipError
from dynflow_app.ledger import sub_plans
from dynflow_app.ledger.blocked import free_plans, pause_after
from dynflow_app.ledger.concluding import announce_effects, conclude, ring
from dynflow_app.ledger.effects import Effects
from dynflow_app.messages import EnvelopeKind
from dynflow_app.models import Envelope, ExecutionPlan, Term
from dynflow_app.models.base import is_outage, is_victim
from dynflow_app.models.envelope import EnvelopeQuerySet
from dynflow_app.orchestrator import advance, family, unlocking
from dynflow_app.payloads.errors import describe
from dynflow_app.signals import announce, orchestration_failed

BATCH = 500
MOST_SECONDS = 2.0
"""After which envelopes that are read one by one are left for the next turn: the lease has to be renewed."""


def run_once(term: Term) -> int:
    """Act on the oldest envelopes; returns how many there were. Raises `LostLeadershipError`."""
    # An idle system asks this now and then, and needs no transaction for it.
    kinds = set(Envelope.objects.due().values_list("kind", flat=True)[:BATCH])
    acted = _decide(term) if kinds - family.KINDS else 0
    return acted + (_end_children(term) if kinds & family.KINDS else 0)


def _decide(term: Term) -> int:
    effects = Effects()
    try:
        with term.transaction():
            envelopes = _decisions().take(BATCH)
            if not envelopes:
                return 0
            _act(envelopes, effects)
    except Exception as error:  # one of the plans is poison, or in somebody's hands: find it, keep the others going
        if is_victim(error) and (blocked := _put_off_blocked()):
            return blocked
        if isinstance(error, LostLeadershipError) or (is_outage(error) and not is_victim(error)):
            raise
        return _act_singly(term)
    _committed(effects)
    return len(envelopes)


def _decisions() -> EnvelopeQuerySet:
    return Envelope.objects.due().exclude(kind__in=family.KINDS)


def _end_children(term: Term) -> int:
    """One portion of sub-plans, in a transaction of its own: it locks plans, and must not have locked counts before."""
    with term.transaction():
        envelopes = Envelope.objects.due().filter(kind__in=family.KINDS).take(1)
        probes.reached(probes.Probe.ENVELOPES_TAKEN)
        for envelope in envelopes:
            envelope.delete()
            family.end_children(envelope)
    return len(envelopes)


def _act(envelopes: Sequence[Envelope], effects: Effects) -> None:
    probes.reached(probes.Probe.ENVELOPES_TAKEN)
    Envelope.objects.filter(id__in=[envelope.pk for envelope in envelopes]).delete()
    _unlock(envelopes)  # first: what a plan that has stopped still holds must not refuse one that is to start
    advance.start({each.plan_id for each in envelopes if each.kind == EnvelopeKind.PLANNED.value}, effects)
    advance.settle({each.plan_id for each in envelopes if each.kind == EnvelopeKind.SETTLED.value}, effects)
    sub_plans.add_up([each for each in envelopes if each.kind == EnvelopeKind.SUB_PLANS.value], effects)
    conclude(effects)


def _unlock(envelopes: Sequence[Envelope]) -> None:
    plan_ids = {each.plan_id for each in envelopes if each.kind == EnvelopeKind.UNLOCK.value}
    if plan_ids:  # plans before their locks, as workers do
        list(ExecutionPlan.objects.filter(id__in={each.plan_id for each in envelopes}).lock().values_list("id"))
        unlocking.unlock(plan_ids)


def _put_off_blocked() -> int:
    """Envelopes about plans that somebody else has locked are read later; returns how many."""
    envelopes = list(_decisions()[:BATCH])
    free = free_plans({envelope.plan_id for envelope in envelopes})
    blocked = [envelope for envelope in envelopes if envelope.plan_id not in free]
    _put_off(blocked)
    return len(blocked)


def _put_off(blocked: Sequence[Envelope]) -> None:
    if blocked:
        oldest = min(envelope.created_at for envelope in blocked)
        keys = [envelope.pk for envelope in blocked]
        Envelope.objects.filter(pk__in=keys).put_off(pause_after((clock.now() - oldest).total_seconds()))


def _act_singly(term: Term) -> int:
    envelopes = list(_decisions()[:BATCH])
    began = clock.monotonic()
    for envelope in envelopes:
        if clock.monotonic() - began > MOST_SECONDS:
            break
        effects = Effects()
        try:
            with term.transaction():
                _act([envelope], effects)
        except Exception as error:
            if is_victim(error):
                _put_off([envelope])
                continue
            if isinstance(error, LostLeadershipError) or is_outage(error):
                raise
            _set_aside(term, envelope, error)
        else:
            _committed(effects)
    return len(envelopes)


def _set_aside(term: Term, envelope: Envelope, error: Exception) -> None:
    effects = Effects()
    with term.transaction():
        Envelope.objects.filter(pk=envelope.pk).delete()
        advance.quarantine(envelope.plan_id, describe(error), effects)
        conclude(effects)
    ring(effects)
    announce(orchestration_failed, ExecutionPlan, plan_id=envelope.plan_id, error=error)


def _committed(effects: Effects) -> None:
    probes.reached(probes.Probe.DECISION_COMMITTED)
    ring(effects)
    announce_effects(effects)
