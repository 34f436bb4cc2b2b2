"""Rescue: find out what the failed actions of a plan want, without running their code here.

If every class involved says so by a constant, that is combined at once; otherwise a worker is asked by a *rescue* step.
Either way the answer is written on the failed steps, so that each failure is answered once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from dynflow_app.actions import registry
from dynflow_app.actions.base import BaseAction
from dynflow_app.conf import settings
from dynflow_app.engine.rescue import combine
from dynflow_app.ledger.asides import Aside, store_asides
from dynflow_app.ledger.effects import Effects
from dynflow_app.models import Action, ExecutionPlan, HistoryEntry, Step
from dynflow_app.states import MadeAs, Phase, Rescue, StepState


@dataclass(frozen=True, slots=True)
class Failed:
    """A step in error."""

    step_id: int
    action_name: str
    rescue: str


def failed_steps(plan_ids: Collection[UUID]) -> dict[UUID, list[Failed]]:
    """The failed steps of these plans."""
    found: defaultdict[UUID, list[Failed]] = defaultdict(list)
    errors = Step.objects.filter(plan_id__in=plan_ids).in_error()
    for plan_id, step_id, name, rescue in errors.values_list("plan_id", "id", "action__name", "rescue"):
        found[plan_id].append(Failed(step_id, name, rescue))
    return found


def find_out(failed: Mapping[UUID, Sequence[Failed]], effects: Effects) -> list[UUID]:
    """Decide about the plans with these failed steps, or ask a worker to.

    Returns the plans about which it was decided here.
    """
    plans = {plan.pk: plan for plan in ExecutionPlan.objects.filter(id__in=failed)}
    by_answer: defaultdict[Rescue, list[int]] = defaultdict(list)
    notes: list[HistoryEntry] = []
    asked = []
    for plan_id, steps in failed.items():
        undecided = [step for step in steps if step.rescue == Rescue.UNDECIDED]
        suggested = _suggestion(plans[plan_id], undecided)
        if suggested is None:
            asked.append(plan_id)
            continue
        answer = suggested if settings.AUTO_RESCUE else Rescue.PAUSE
        by_answer[answer] += [step.step_id for step in undecided]
        if suggested != Rescue.PAUSE:
            is_off = "" if settings.AUTO_RESCUE else " (AUTO_RESCUE is off, so a person decides)"
            reason = f"the failed actions suggest: {suggested}{is_off}"
            notes.append(HistoryEntry(plan_id=plan_id, verb="rescue", reason=reason))
    for answer, step_ids in by_answer.items():
        Step.objects.filter(id__in=step_ids, state=StepState.ERROR).update(rescue=answer)
    HistoryEntry.objects.bulk_create(notes)
    _ask(plans, asked, effects)
    return [plan_id for plan_id in failed if plan_id not in asked]


def _suggestion(plan: ExecutionPlan, failed: Sequence[Failed]) -> Rescue | None:
    """What these failed actions together suggest; None if only their code can tell."""
    if plan.made_as == MadeAs.REVERT:
        return Rescue.PAUSE  # what actions suggest is about doing, not about undoing
    entry = registry.known(plan.action)
    if entry is None or entry.combine_rescue is not BaseAction.combine_rescue:
        return None
    suggestions = []
    for step in failed:
        action_class = registry.known(step.action_name)
        if action_class is None or not isinstance(action_class.rescue_strategy, Rescue):
            return None
        suggestions.append(action_class.rescue_strategy)
    return combine(suggestions)


def _ask(plans: Mapping[UUID, ExecutionPlan], plan_ids: Collection[UUID], effects: Effects) -> None:
    entries = Action.objects.filter(plan_id__in=plan_ids, number=1).values_list("plan_id", "id") if plan_ids else ()
    asides = [
        Aside(plan_id=plan_id, action_id=action_id, queue=plans[plan_id].queue, phase=Phase.RESCUE)
        for plan_id, action_id in entries
    ]
    store_asides(asides, effects)
