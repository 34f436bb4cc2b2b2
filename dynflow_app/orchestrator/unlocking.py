"""Locks: unlocked, and offered to whoever is next in line. Each time that looks at the head of a line, however long."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from uuid import UUID

from django.db.models import Q
from django.db.models.functions import Now

from dynflow_app.ledger import lines
from dynflow_app.messages import EnvelopeKind
from dynflow_app.models import Envelope, ExecutionPlan, ResourceLock
from dynflow_app.orchestrator.granting import ancestors
from dynflow_app.states import LockState, PlanState


def unlock(plan_ids: Collection[UUID]) -> None:
    """Unlock what these plans do not need any more: everything if they have stopped, otherwise what was asked for.
    A plan that was frozen leaves the line. Whoever may be next gets an envelope."""
    if not plan_ids:
        return
    call(lines.next_in_line(lines.unlock(plan_ids)))


def call(plan_ids: Iterable[UUID]) -> None:
    """Let the orchestrator look at these waiting plans."""
    Envelope.objects.send(EnvelopeKind.PLANNED, plan_ids)


def mend(most: int) -> int:
    """Write envelopes that are missing: for plans that should unlock something, and for those that nothing keeps from
    starting; returns how many."""
    locks = ResourceLock.objects.order_by()
    over = locks.live().filter(Q(plan__state=PlanState.STOPPED) | Q(is_unlock_requested=True, state=LockState.HELD))
    frozen = locks.filter(state=LockState.WAITING, plan__is_frozen=True)
    stale = {*over.values_list("plan_id", flat=True)[:most], *frozen.values_list("plan_id", flat=True)[:most]}
    resources = locks.filter(state=LockState.WAITING).values_list("resource", flat=True).distinct()
    heads = lines.next_in_line(dict.fromkeys(resources, True))[:most]
    parents = ExecutionPlan.objects.filter(id__in=heads).values_list("id", "parent_step_id")
    kin = ancestors({plan_id: step for plan_id, step in parents if step})
    blocked = lines.blocked_by(heads, kin) if heads else {}
    forgotten = {
        EnvelopeKind.UNLOCK: stale,
        EnvelopeKind.PLANNED: {plan_id for plan_id in heads if plan_id not in blocked},
    }
    written = 0
    for kind, plan_ids in forgotten.items():
        unread = Envelope.objects.filter(kind=kind.value, plan_id__in=plan_ids, due_at__lte=Now())
        missing = plan_ids - set(unread.values_list("plan_id", flat=True)) if plan_ids else set()
        Envelope.objects.send(kind, missing)
        written += len(missing)
    return written
