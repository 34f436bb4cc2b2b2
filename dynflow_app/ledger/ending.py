"""How plans pause and stop, whoever decides it; and the hooks that are called then."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any
from uuid import UUID

from django.db.models import Exists, OuterRef

from dynflow_app.ledger.asides import Aside, store_asides
from dynflow_app.ledger.effects import Effects, Settled
from dynflow_app.models import Action, ExecutionPlan, Prerequisite, Step
from dynflow_app.states import LIVE_PLAN_STATES, Cause, Phase, PlanResult, PlanState

PAUSED = "paused"
"""What a sub-plan that pauses counts as."""


def pause(plan_ids: Collection[UUID], result: PlanResult, effects: Effects) -> None:
    """Pause these running, locked plans."""
    if plan_ids:
        ExecutionPlan.objects.filter(id__in=plan_ids).pause(result)
        _come_to_rest(plan_ids, Settled(PlanState.PAUSED, result), effects)


def stop(
    plan_ids: Collection[UUID],
    result: PlanResult,
    effects: Effects,
    frm: Collection[PlanState] = LIVE_PLAN_STATES,
) -> None:
    """Stop these locked plans, of which no step is active."""
    if plan_ids:
        ExecutionPlan.objects.filter(id__in=plan_ids).stop(result, frm)
        _come_to_rest(plan_ids, Settled(PlanState.STOPPED, result), effects)


def cancel_rest(plan_ids: Collection[UUID]) -> None:
    """Cancel what has not begun in these locked plans, none of whose steps is active."""
    Step.objects.filter(plan_id__in=plan_ids).cancel_unbegun()


def _come_to_rest(plan_ids: Collection[UUID], how: Settled, effects: Effects) -> None:
    """Tell everybody whom it concerns that these plans have come to rest; most concern nobody."""
    effects.settled.update(dict.fromkeys(plan_ids, how))
    has_stopped = how.state is PlanState.STOPPED
    plans = ExecutionPlan.objects.filter(id__in=plan_ids)
    is_awaited = Exists(Prerequisite.objects.filter(after=OuterRef("pk")))
    hooked: dict[UUID, str] = {}
    awaited: list[UUID] = []
    rows: Iterable[Any] = plans.values_list(
        "id", "hooks", "queue", "has_locks", "parent_step_id", "position", is_awaited
    )
    for plan_id, hooks, queue, has_locks, parent_step, position, has_dependents in rows:
        if hooks:
            hooked[plan_id] = queue
        if has_dependents and has_stopped:
            awaited.append(plan_id)
        if has_locks and has_stopped:
            effects.to_unlock.add(plan_id)
        if parent_step is not None and position is not None:
            effects.rested[parent_step, str(how.result) if has_stopped else PAUSED] += 1
    if awaited:
        dependents = ExecutionPlan.objects.filter(prerequisites__after__in=awaited, state=PlanState.SCHEDULED)
        effects.to_start.update(dependents.values_list("id", flat=True))
    if hooked:
        _call_hooks(hooked, Cause.STOPPED if has_stopped else Cause.PAUSED, effects)


def _call_hooks(queues: Mapping[UUID, str], cause: Cause, effects: Effects) -> None:
    """One step for each of these plans; it belongs to the entry action and calls the hooks of all, in order."""
    entries = Action.objects.filter(plan_id__in=queues, number=1).values_list("plan_id", "id")
    asides = [
        Aside(plan_id=plan_id, action_id=action_id, queue=queues[plan_id], phase=Phase.HOOK, cause=cause)
        for plan_id, action_id in entries
    ]
    store_asides(asides, effects)
