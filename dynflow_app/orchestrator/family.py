"""Family: what was done to a plan is done to its sub-plans, a portion at a time."""

from __future__ import annotations

from datetime import timedelta

from django.db.models import Exists, OuterRef

from dynflow_app import clock, control
from dynflow_app.ledger.blocked import SHORTEST_PAUSE, free_plans
from dynflow_app.ledger.families import end_many
from dynflow_app.messages import EnvelopeKind
from dynflow_app.models import Envelope, ExecutionPlan, HistoryEntry
from dynflow_app.states import StopRequest

PORTION = 500
MOST_HALTED = 50
_REQUESTS = {
    EnvelopeKind.CANCEL_CHILDREN.value: StopRequest.CANCEL,
    EnvelopeKind.ABORT_CHILDREN.value: StopRequest.ABORT,
}
KINDS = frozenset({*_REQUESTS, EnvelopeKind.HALT_CHILDREN.value})
_REASON = "its parent was"


def end_children(envelope: Envelope) -> None:
    """End the next sub-plans of the plan in `envelope`; write another one if there are more."""
    actor = f"plan {envelope.plan_id}"
    living = ExecutionPlan.objects.live().filter(parent_step__plan=envelope.plan_id).order_by("pk")
    request = _REQUESTS.get(envelope.kind)
    if request is None:
        found = list(living.values_list("pk", flat=True)[:MOST_HALTED])
        portion = free_plans(found)
        control.in_bulk(control.halt, ExecutionPlan.objects.filter(pk__in=portion), by=actor, reason=_REASON)
        is_more = len(found) == MOST_HALTED
    else:
        # One that answers a cancel takes its time, and needs not be asked again.
        asked = HistoryEntry.objects.filter(plan=OuterRef("pk"), verb=str(request), actor=actor)
        living = living.exclude(parent_step__stop_request=StopRequest.NONE).exclude(Exists(asked))
        found = list(living.values_list("pk", flat=True)[:PORTION])
        portion = free_plans(found)
        end_many(portion, request, by=actor, reason=_REASON)
        is_more = len(found) == PORTION
    if is_more or len(portion) < len(found):
        later = None if portion else clock.now() + timedelta(seconds=SHORTEST_PAUSE)
        Envelope.objects.send(EnvelopeKind(envelope.kind), [envelope.plan_id], due_at=later)
