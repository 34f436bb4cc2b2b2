"""How plans pause and stop, whoever decides it; and the hooks that are called then."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from uuid import UUID

from django.db.models import F, Q
from django.db.models.functions import Now

from dynflow_app.ledger.asides import Aside, make_ready
from dynflow_app.ledger.locking import tell_released
from dynflow_app.models import Action, ExecutionPlan, Step
from dynflow_app.states import LIVE_PLAN_STATES, Cause, Phase, PlanResult, PlanState, StepState


def pause(plan_ids: Collection[UUID], result: PlanResult = PlanResult.ERROR) -> Counter[str]:
    """Pause these running, locked plans; returns queue to number of hook steps that became ready."""
    plans = ExecutionPlan.objects.filter(id__in=plan_ids)
    plans.transition([PlanState.RUNNING], PlanState.PAUSED, result=result, revision=F("revision") + 1)
    return _call_hooks(plan_ids, Cause.PAUSED)


def stop(plan_ids: Collection[UUID], result: PlanResult) -> Counter[str]:
    """Stop these locked plans, of which no step is active; returns queue to number of hook steps that became ready."""
    plans = ExecutionPlan.objects.filter(id__in=plan_ids)
    plans.transition(LIVE_PLAN_STATES, PlanState.STOPPED, result=result, ended_at=Now(), revision=F("revision") + 1)
    return _call_hooks(plan_ids, Cause.STOPPED)


def cancel_rest(plan_ids: Collection[UUID]) -> None:
    """Cancel what has not begun in these locked plans, none of whose steps is active."""
    rest = Step.objects.filter(plan_id__in=plan_ids)
    rest.transition([StepState.PENDING, StepState.ERROR], StepState.CANCELLED, ended_at=Now())


def _call_hooks(plan_ids: Collection[UUID], cause: Cause) -> Counter[str]:
    """One step for each plan that has hooks; it belongs to the entry action and calls the hooks of all, in order."""
    special = ExecutionPlan.objects.filter(~Q(hooks=[]) | Q(has_locks=True), id__in=plan_ids)
    rows = list(special.values_list("id", "queue", "hooks", "has_locks"))
    if cause is Cause.STOPPED:
        tell_released([plan_id for plan_id, _queue, _hooks, has_locks in rows if has_locks])
    queues = {plan_id: queue for plan_id, queue, hooks, _has_locks in rows if hooks}
    if not queues:
        return Counter()
    entries = Action.objects.filter(plan_id__in=queues, number=1).values_list("plan_id", "id")
    return make_ready(
        [
            Aside(plan_id=plan_id, action_id=action_id, queue=queues[plan_id], phase=Phase.HOOK, cause=cause)
            for plan_id, action_id in entries
        ]
    )
