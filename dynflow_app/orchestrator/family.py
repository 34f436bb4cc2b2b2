"""Family: what was done to a plan is done to its sub-plans, a portion at a time."""

from __future__ import annotations

from django.db.models import Exists, OuterRef

from dynflow_app import control
from dynflow_app.messages import EnvelopeKind
from dynflow_app.models import Envelope, ExecutionPlan, HistoryEntry
from dynflow_app.states import StopRequest

PORTION = 100
VERBS = {
    EnvelopeKind.CANCEL_CHILDREN.value: control.cancel,
    EnvelopeKind.ABORT_CHILDREN.value: control.abort,
    EnvelopeKind.HALT_CHILDREN.value: control.halt,
}


def end_children(envelope: Envelope) -> None:
    """End the next sub-plans of the plan in `envelope`; write another one if there are more."""
    verb = VERBS[envelope.kind]
    living = ExecutionPlan.objects.live().filter(parent_step__plan=envelope.plan_id)
    if verb is not control.halt:
        living = living.exclude(parent_step__stop_request=StopRequest.NONE)
        # A sub-plan that answers a cancel takes its time, and needs not be asked again.
        asked = HistoryEntry.objects.filter(plan=OuterRef("pk"), verb=verb.__name__, actor=_actor(envelope))
        living = living.exclude(Exists(asked))
    portion = list(living.order_by("pk").values_list("pk", flat=True)[:PORTION])
    control.in_bulk(verb, ExecutionPlan.objects.filter(pk__in=portion), by=_actor(envelope), reason="its parent was")
    if len(portion) == PORTION:
        Envelope.objects.create(kind=envelope.kind, plan_id=envelope.plan_id)


def _actor(envelope: Envelope) -> str:
    return f"plan {envelope.plan_id}"
