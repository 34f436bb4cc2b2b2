"""Stopping: steps and plans are told to end, or ended without asking. Their plans are locked by the caller."""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from django.db.models import F, Q
from django.db.models.functions import Now

from dynflow_app.ledger import ending, events
from dynflow_app.ledger.asides import needs_worker
from dynflow_app.ledger.effects import Effects
from dynflow_app.ledger.steps import cancel, forget, make_these_ready, take_back
from dynflow_app.messages import EndedAs, EnvelopeKind
from dynflow_app.models import Attempt, Envelope, ExecutionPlan, Step, SubPlans
from dynflow_app.models.step import NO_WAIT, StepQuerySet
from dynflow_app.payloads.errors import as_error
from dynflow_app.states import (
    ACTIVE_STEP_STATES,
    ASIDE_PHASES,
    BEGUN_PLAN_STATES,
    COUNTED_PHASES,
    DEAF_ALARMS,
    Alarm,
    Cause,
    Phase,
    PlanResult,
    StepState,
    StopRequest,
)

_FORGOTTEN = as_error(
    "Halted",
    "The plan was halted while this step ran. Nobody waited for it, so it is unknown whether its effects took place.",
)
_ENDED_CHILDREN = sum(
    (F(f"sub_plans__{result}") for result in ("warning", "error", "cancelled")), F("sub_plans__success")
)
_WAITS_FOR_CHILDREN = Q(state__in=(StepState.READY, StepState.SUSPENDED), sub_plans__made__gt=_ENDED_CHILDREN)
_CHILDREN_KINDS = {
    StopRequest.CANCEL: EnvelopeKind.CANCEL_CHILDREN,
    StopRequest.ABORT: EnvelopeKind.ABORT_CHILDREN,
}


def end_whole(plans: Collection[ExecutionPlan], request: StopRequest, effects: Effects) -> None:
    """Tell all steps of these live plans to end. Those that have not begun stop at once, the others when their last
    step has answered. Nothing of them runs as a singleton any more."""
    steps = Step.objects.filter(plan__in=[plan.pk for plan in plans])
    end_steps(steps, request, effects)
    before = [plan.pk for plan in plans if plan.state not in BEGUN_PLAN_STATES]
    if before:
        ending.cancel_rest(before)
        Envelope.objects.filter(plan__in=before).delete()
        ending.stop(before, PlanResult.CANCELLED, effects)
    begun = [plan.pk for plan in plans if plan.state in BEGUN_PLAN_STATES]
    ExecutionPlan.objects.filter(pk__in=begun).resume(singleton=None)
    quiet = without_active(begun)
    ending.cancel_rest(quiet)  # nobody is left who could answer with success
    effects.to_decide |= quiet


def end_steps(steps: StepQuerySet, request: StopRequest, effects: Effects) -> None:
    """Tell these steps to end. Those with sub-plans that have not ended do so after them."""
    limited = steps.filter(state__in=ACTIVE_STEP_STATES, limit_key__isnull=False).values_list("limit_key", flat=True)
    effects.limits.update(key for key in limited if key is not None)
    _end_steps(steps, request, effects)
    _end_children(steps, request, effects)  # after a step that makes them was told to end, so that none is missed


def without_active(plan_ids: Collection[UUID]) -> set[UUID]:
    """Those of these plans of which no step is active, whatever has been counted so far."""
    active = Step.objects.filter(plan__in=plan_ids).exclude(phase=Phase.HOOK).active()
    return set(plan_ids) - set(active.values_list("plan_id", flat=True))


def halt(plan: ExecutionPlan, effects: Effects) -> None:
    """Stop a live plan without asking anybody. Its steps stay as they are; running ones are forgotten."""
    steps = Step.objects.filter(plan=plan)
    limited = steps.filter(state__in=ACTIVE_STEP_STATES, limit_key__isnull=False).values_list("limit_key", flat=True)
    effects.limits.update(key for key in limited if key is not None)
    SubPlans.objects.filter(step__in=steps).update(wakes_below=None)  # before steps: the order of locks
    # Neither claims nor alarms ask for the plan's lock, so first what could wake, then what could be claimed.
    steps.filter(state=StepState.SUSPENDED).update(**NO_WAIT)
    cancel(steps.filter(phase__in=ASIDE_PHASES, state=StepState.READY))
    take_back(steps)
    _note_forgotten(forget(steps, _FORGOTTEN))
    steps.stop_skipping()
    events.drop(list(steps.filter(is_addressed=True).values_list("pk", flat=True)))
    Envelope.objects.filter(plan=plan).delete()
    ExecutionPlan.objects.filter(pk=plan.pk).update(active_steps=0)
    found = set(steps.filter(phase__in=COUNTED_PHASES).values_list("state", flat=True))
    is_error = StepState.ERROR in found and StepState.CANCELLED not in found
    ending.stop([plan.pk], PlanResult.ERROR if is_error else PlanResult.CANCELLED, effects)
    if steps.filter(sub_plans__made__gt=_ENDED_CHILDREN).exists():
        Envelope.objects.send(EnvelopeKind.HALT_CHILDREN, [plan.pk])
        effects.rings_orchestrator = True


def _end_steps(steps: StepQuerySet, request: StopRequest, effects: Effects) -> None:
    steps = steps.exclude(phase=Phase.HOOK).exclude(_WAITS_FOR_CHILDREN)
    if request == StopRequest.CANCEL:
        suspended = steps.filter(state=StepState.SUSPENDED).exclude(alarm__in=DEAF_ALARMS).select_related("action")
        asked = [step.pk for step in suspended if needs_worker(step.action.name, "cancel")]
        woken = make_these_ready(asked, frm=StepState.SUSPENDED, cause=Cause.CANCEL)
        effects.became_ready(woken, is_new=False)
        others = steps.exclude(cause=Cause.CANCEL, state=StepState.READY)
    else:
        others = steps
    effects.ended(cancel(others))
    # Finalize steps stay: if all that runs answers with success, the plan goes on to them.
    steps.exclude(phase=Phase.FINALIZE).cancel_unbegun()
    steps.filter(state=StepState.RUNNING).exclude(stop_request=StopRequest.ABORT).update(stop_request=request)
    events.drop(list(steps.filter(state=StepState.CANCELLED, is_addressed=True).values_list("pk", flat=True)))


def _end_children(steps: StepQuerySet, request: StopRequest, effects: Effects) -> None:
    """Have the sub-plans of these steps ended, a portion at a time, by the orchestrator."""
    parents = steps.filter(sub_plans__made__gt=_ENDED_CHILDREN)
    plan_ids = set(parents.values_list("plan_id", flat=True))
    if plan_ids:
        parents.update(stop_request=request)
        # What waits for its next try would see only then that it is to end.
        parents.filter(state=StepState.SUSPENDED, alarm__in=DEAF_ALARMS).update(alarm=Alarm.WAKE, alarm_at=Now())
        Envelope.objects.send(_CHILDREN_KINDS[request], plan_ids)
        effects.rings_orchestrator = True


def _note_forgotten(steps: Collection[Step]) -> None:
    Attempt.objects.bulk_create(
        Attempt(
            step=step, number=step.attempt, ended_as=EndedAs.LOST.value, worker=step.worker, error=_FORGOTTEN,
            started_at=step.started_at or Now(), ended_at=Now(),
        )
        for step in steps
    )  # fmt: skip
