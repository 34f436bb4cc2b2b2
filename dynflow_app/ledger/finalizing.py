"""The finalize phase: all finalize steps of a plan, claimed through the first of them, written in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from django.db.models import F
from django.db.models.functions import Now

from dynflow_app.ledger.recording import Recorded, record
from dynflow_app.messages import Claimed, EndedAs, Outcome
from dynflow_app.models import ExecutionPlan, Step
from dynflow_app.states import Phase, StepState


def load_phase(first: Claimed) -> list[Claimed]:
    """All steps of the finalize phase that `first` was claimed for, in planning order. No query if it is alone."""
    if not first.companions:
        return [first]
    rest = Step.objects.filter(plan_id=first.plan_id, phase=Phase.FINALIZE, state=StepState.PENDING)
    return [first] + [
        Claimed(
            step_id=step.id, plan_id=step.plan_id, number=step.number, attempt=step.attempt + 1, phase=step.phase,
            is_awaited=False, action_id=step.action_id, action_number=step.action.number,
            action_name=step.action.name, input=step.action.input, output=step.action.output,
            consumes=step.action.consumes, queue=step.queue,
        )
        for step in rest.select_related("action").order_by("number")
    ]  # fmt: skip


def record_failed_phase(first: Outcome, failed: Outcome, *, world_id: UUID, worker: str) -> Recorded:
    """Write that a finalize phase was rolled back because the step of `failed` raised. `first` is the claimed one."""
    if failed.step_id == first.step_id:
        return record([failed], worker=worker)
    first.state, first.ended_as, first.output, first.input = StepState.PENDING, EndedAs.ROLLED_BACK, None, None
    claim_along([first, failed], world_id)
    return record([first, failed], worker=worker)


def claim_along(outcomes: Sequence[Outcome], world_id: UUID) -> None:
    """Let the steps after the first be running too, as `record` expects, if the first still is."""
    if len(outcomes) == 1:
        return
    first = outcomes[0]
    ExecutionPlan.objects.filter(id=first.plan_id).lock().first()
    mine = Step.objects.filter(id=first.step_id, state=StepState.RUNNING, attempt=first.attempt)
    rest = Step.objects.filter(id__in=[outcome.step_id for outcome in outcomes[1:]])
    if mine.exists():
        claimed = rest.transition(
            [StepState.PENDING], StepState.RUNNING, attempt=F("attempt") + 1, world_id=world_id, started_at=Now()
        )
        ExecutionPlan.objects.filter(id=first.plan_id).update(active_steps=F("active_steps") + claimed)
