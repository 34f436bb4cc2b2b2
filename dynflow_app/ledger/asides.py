"""Asides: steps outside the flow of a plan, in which a worker runs user code *about* it (rescue, skip, hooks)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from django.db.models import Max
from django.db.models.functions import Now

from dynflow_app.actions import registry
from dynflow_app.ledger.effects import BecameReady, Effects
from dynflow_app.models import Step, Ticket
from dynflow_app.states import Cause, Phase, StepState


@dataclass(frozen=True, slots=True, kw_only=True)
class Aside:
    """What is to run."""

    plan_id: UUID
    action_id: int
    queue: str
    phase: Phase
    cause: Cause = Cause.START


def needs_worker(action_name: str, method: str) -> bool:
    """Whether `method` of this action has to be called; if this process does not know the class, a worker finds out."""
    action_class = registry.known(action_name)
    return action_class is None or action_class.has_phase(method)


def store_asides(asides: Sequence[Aside], effects: Effects) -> None:
    """Store these asides, ready to be claimed. Their plans must be locked.

    They are active steps of their plans, except hooks, which run beside whatever the plan does.
    """
    if not asides:
        return
    plans = {aside.plan_id for aside in asides}
    rows = Step.objects.filter(plan_id__in=plans).order_by().values_list("plan_id").annotate(last=Max("number"))
    last: dict[UUID, int] = dict(rows)
    steps = []
    for aside in asides:
        last[aside.plan_id] = last.get(aside.plan_id, 0) + 1
        steps.append(
            Step(
                plan_id=aside.plan_id,
                action_id=aside.action_id,
                number=last[aside.plan_id],
                phase=aside.phase,
                cause=aside.cause,
                state=StepState.READY,
                ready_at=Now(),
                queue=aside.queue,
                weight=0.0,
                # Deciding and tidying up may happen twice; what a hook does (a mail, say) should not.
                is_idempotent=aside.phase is not Phase.HOOK,
            )
        )
    Step.objects.bulk_create(steps)
    Ticket.objects.draw([step.pk for step in steps])
    for step in steps:
        row = BecameReady(step.pk, step.plan_id, step.queue, None)
        effects.became_ready([row], is_new=step.phase != Phase.HOOK)
