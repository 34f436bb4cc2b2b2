"""Skip: give up failed steps together with all that needs their output, without letting anything overtake.

An action with `on_skip` is asked first, by a worker: its step is *skipping* meanwhile. If that raises, the step is back
in error and nothing else was skipped.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any
from uuid import UUID

from django.db.models import F

from dynflow_app.ledger.asides import Aside, needs_worker, store_asides
from dynflow_app.ledger.effects import Effects
from dynflow_app.ledger.releasing import open_gates, release_frontier
from dynflow_app.messages import Outcome
from dynflow_app.models import Action, Dependency, Gate, Step
from dynflow_app.states import FLOW_PHASES, Phase, StepState


def begin(steps: Sequence[Step], running: Collection[UUID], effects: Effects) -> None:
    """Skip these failed steps (with ``action`` loaded) of one locked plan, or ask their actions first."""
    asked = [step for step in steps if needs_worker(step.action.name, "on_skip")]
    give_up([step for step in steps if step not in asked], running, effects)
    Step.objects.filter(pk__in=[step.pk for step in asked]).begin_skipping()
    effects.active.update(step.plan_id for step in asked)
    asides = [
        Aside(plan_id=step.plan_id, action_id=step.action_id, queue=step.queue, phase=Phase.SKIP) for step in asked
    ]
    store_asides(asides, effects)


def follow_answers(outcomes: Iterable[Outcome], running: Collection[UUID], effects: Effects) -> None:
    """Do what the ended asides of these outcomes decided. The plans must be locked."""
    by_plan: dict[UUID, list[Step]] = {}
    for outcome in outcomes:
        skipping = Step.objects.filter(action_id=outcome.action_id, state=StepState.SKIPPING)
        if outcome.state == StepState.SUCCESS:
            by_plan.setdefault(outcome.plan_id, []).extend(skipping)
        elif skipping.keep_after_all(outcome.error):
            effects.ended([outcome.plan_id])
    for plan_id, steps in by_plan.items():
        give_up(steps, running, effects)
        effects.ended([plan_id] * len(steps))


def give_up(steps: Sequence[Step], running: Collection[UUID], effects: Effects) -> None:
    """Skip these steps of one locked plan and what needs their output; nobody is asked any more.

    Steps that thereby wait for nothing become ready, if the plan is among `running`.
    """
    if steps:
        skipped = skipped_with(steps)
        Step.objects.filter(pk__in=[each.pk for each in skipped]).skip()
        _let_go(skipped, running, effects)


def skipped_with(steps: Sequence[Step]) -> list[Step]:
    """`steps` (of one plan), the steps that need their output, and the finalize steps of all their actions, unless they
    have ended."""
    plan_id = steps[0].plan_id
    chosen = {step.pk for step in steps}
    running = [step.action_id for step in steps if step.phase in FLOW_PHASES]
    numbers: set[int] = set()
    if running:
        numbers = _consumers(plan_id, Action.objects.filter(pk__in=running).values_list("number", flat=True))
    candidates = Step.objects.filter(plan_id=plan_id, action__number__in=numbers) | Step.objects.filter(pk__in=chosen)
    return [
        each
        for each in candidates.order_by("number")
        if each.pk in chosen
        or (each.state in (StepState.PENDING, StepState.ERROR) and each.phase in (*FLOW_PHASES, Phase.FINALIZE))
    ]


def _consumers(plan_id: Any, numbers: Iterable[int]) -> set[int]:
    """Numbers of the actions that need, directly or not, the output of `numbers`, and those themselves."""
    found = set(numbers)
    rows = Action.objects.filter(plan_id=plan_id).order_by("number").values_list("number", "consumes")
    consuming = [(number, consumes) for number, consumes in rows if consumes]
    grown = True
    while grown:  # plan_self may be called late, so an early action can refer to one with a higher number
        grown = False
        for number, consumes in consuming:
            if number not in found and not found.isdisjoint(consumes):
                found.add(number)
                grown = True
    return found


def _let_go(skipped: Collection[Step], running: Collection[UUID], effects: Effects) -> None:
    """Let what waits for skipped steps wait no longer than it would have for the steps themselves.

    One whose own gate is open counts as ended. For one whose gate is still closed, that gate takes its place: what
    comes later in a sequence must not start before what comes earlier.
    """
    awaited = [each for each in skipped if each.is_awaited]
    gates = Gate.objects.filter(id__in=[each.gate_id for each in awaited if each.gate_id], waits_for__gt=0)
    closed = set(gates.values_list("id", flat=True))
    behind = {each.pk: each.gate_id for each in awaited if each.gate_id in closed}
    for dependency in list(Dependency.objects.filter(step_id__in=behind).select_related("step")):
        _, is_new = Dependency.objects.get_or_create(
            gate_id=dependency.gate_id, step=None, after_gate_id=behind[dependency.step_id or 0]
        )
        dependency.delete()
        if not is_new:  # it waits for that gate already
            Gate.objects.filter(id=dependency.gate_id).update(waits_for=F("waits_for") - 1)
    gates.update(is_awaited=True)
    open_gates([each.pk for each in awaited if each.pk not in behind], (), effects)
    # Not only what waited behind these gates: a plan that failed fast has taken other steps back.
    release_frontier({each.plan_id for each in skipped}.intersection(running), effects)
