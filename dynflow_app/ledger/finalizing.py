"""The finalize phase: all finalize steps of a plan, claimed through the first of them, written in one transaction."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from uuid import UUID

from django.db.models import F, Min
from django.db.models.functions import Now

from dynflow_app.ledger.effects import Effects
from dynflow_app.ledger.steps import make_these_ready
from dynflow_app.messages import Claimed, Outcome
from dynflow_app.models import ExecutionPlan, Step
from dynflow_app.states import STEP_TRANSITIONS, Phase, StepState, require_legal


def begin_finalize(plan_ids: Collection[UUID], effects: Effects) -> set[UUID]:
    """Make the first finalize step of each of these locked plans ready, if it waits; returns the plans that have
    one."""
    if not plan_ids:
        return set()
    waiting = Step.objects.filter(plan__in=plan_ids, phase=Phase.FINALIZE, state=StepState.PENDING).order_by()
    first = [row["first"] for row in waiting.values("plan").annotate(first=Min("pk"))]
    made = make_these_ready(first, frm=StepState.PENDING)
    effects.became_ready(made, is_new=True)
    return {row.plan_id for row in made}


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


def claim_along(outcomes: Sequence[Outcome], worker: str) -> None:
    """Let the steps after the first be running too, as `record` expects, if the first still is. They need no ticket:
    nobody sees them before they have ended in the same transaction."""
    if len(outcomes) == 1:
        return
    first = outcomes[0]
    ExecutionPlan.objects.filter(id=first.plan_id).lock().first()
    if not Step.objects.filter(id=first.step_id, state=StepState.RUNNING, attempt=first.attempt).exists():
        return
    require_legal(STEP_TRANSITIONS, [StepState.PENDING], StepState.RUNNING)
    rest = Step.objects.filter(id__in=[outcome.step_id for outcome in outcomes[1:]], state=StepState.PENDING)
    claimed = rest.update(state=StepState.RUNNING, attempt=F("attempt") + 1, worker=worker, started_at=Now())
    ExecutionPlan.objects.filter(id=first.plan_id).update(active_steps=F("active_steps") + claimed)
