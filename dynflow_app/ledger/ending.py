"""How plans pause and stop, whoever decides it; and the hooks that are called then."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from uuid import UUID

from django.db.models import Exists, F, OuterRef
from django.db.models.functions import Now

from dynflow_app.ledger import sub_plans
from dynflow_app.ledger.asides import Aside, make_ready
from dynflow_app.ledger.locking import tell_released
from dynflow_app.messages import EnvelopeKind
from dynflow_app.models import Action, Envelope, ExecutionPlan, Prerequisite, Step
from dynflow_app.states import LIVE_PLAN_STATES, Cause, Phase, PlanResult, PlanState, StepState


def pause(plan_ids: Collection[UUID], result: PlanResult = PlanResult.ERROR) -> Counter[str]:
    """Pause these running, locked plans; returns queue to number of hook steps that became ready."""
    plans = ExecutionPlan.objects.filter(id__in=plan_ids)
    plans.transition([PlanState.RUNNING], PlanState.PAUSED, result=result, revision=F("revision") + 1)
    return _come_to_rest(plan_ids, Cause.PAUSED)


def stop(plan_ids: Collection[UUID], result: PlanResult) -> Counter[str]:
    """Stop these locked plans, of which no step is active; returns queue to number of hook steps that became ready."""
    plans = ExecutionPlan.objects.filter(id__in=plan_ids)
    plans.transition(LIVE_PLAN_STATES, PlanState.STOPPED, result=result, ended_at=Now(), revision=F("revision") + 1)
    return _come_to_rest(plan_ids, Cause.STOPPED, result)


def cancel_rest(plan_ids: Collection[UUID]) -> None:
    """Cancel what has not begun in these locked plans, none of whose steps is active."""
    rest = Step.objects.filter(plan_id__in=plan_ids)
    rest.transition([StepState.PENDING, StepState.ERROR], StepState.CANCELLED, ended_at=Now())


def _come_to_rest(plan_ids: Collection[UUID], cause: Cause, result: PlanResult | None = None) -> Counter[str]:
    """Tell everybody whom it concerns that these plans have come to rest; most concern nobody."""
    plans = ExecutionPlan.objects.filter(id__in=plan_ids)
    is_awaited = Exists(Prerequisite.objects.filter(after=OuterRef("pk")))
    hooked: dict[UUID, str] = {}
    awaited: list[UUID] = []
    locking: list[UUID] = []
    siblings: Counter[int] = Counter()
    rows = plans.values_list("id", "hooks", "queue", "has_locks", "parent_step_id", "position", is_awaited)
    for plan_id, hooks, queue, has_locks, parent_step, position, has_dependents in rows:
        if hooks:
            hooked[plan_id] = queue
        if has_dependents and result is not None:
            awaited.append(plan_id)
        if has_locks and result is not None:
            locking.append(plan_id)
        if parent_step is not None and position is not None:
            siblings[parent_step] += 1
    tell_released(locking)
    if awaited:
        _let_dependents_look(awaited)
    ready = _call_hooks(hooked, cause) if hooked else Counter()
    return ready + (sub_plans.come_to_rest(siblings, result) if siblings else Counter())


def _let_dependents_look(plan_ids: Collection[UUID]) -> None:
    dependents = ExecutionPlan.objects.filter(prerequisites__after__in=plan_ids, state=PlanState.SCHEDULED)
    Envelope.objects.bulk_create(
        Envelope(kind=EnvelopeKind.PLANNED.value, plan_id=plan_id)
        for plan_id in dependents.values_list("id", flat=True).distinct()
    )


def _call_hooks(queues: Mapping[UUID, str], cause: Cause) -> Counter[str]:
    """One step for each of these plans; it belongs to the entry action and calls the hooks of all, in order."""
    entries = Action.objects.filter(plan_id__in=queues, number=1).values_list("plan_id", "id")
    return make_ready(
        [
            Aside(plan_id=plan_id, action_id=action_id, queue=queues[plan_id], phase=Phase.HOOK, cause=cause)
            for plan_id, action_id in entries
        ]
    )
