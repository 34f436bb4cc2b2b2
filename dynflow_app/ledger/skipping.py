"""Skip: give up failed steps together with all that needs their output, without letting anything overtake.

An action with `on_skip` is asked first, by a worker: its step is *skipping* meanwhile. If that raises, the step is back
in error and nothing else was skipped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.db.models import F
from django.db.models.functions import Now

from dynflow_app.ledger.asides import Aside, make_ready, needs_worker
from dynflow_app.ledger.releasing import Released, open_gates, release_frontier
from dynflow_app.messages import Outcome
from dynflow_app.models import Action, Dependency, Gate, Step
from dynflow_app.states import FLOW_PHASES, Phase, Rescue, StepState


@dataclass(slots=True)
class Changed:
    """What skipping did to the numbers of active steps, and to the queues."""

    active: Counter[UUID] = field(default_factory=Counter)
    ready: Counter[str] = field(default_factory=Counter)
    limits: set[str] = field(default_factory=set)
    """Keys of limits that may let steps pass now; to be admitted by whoever asked."""


def begin(steps: Sequence[Step], running: Collection[UUID]) -> Changed:
    """Skip these failed steps (with ``action`` loaded) of one locked plan, or ask their actions first."""
    asked = [step for step in steps if needs_worker(step.action.name, "on_skip")]
    changed = give_up([step for step in steps if step not in asked], running)
    ids = [step.pk for step in asked]
    Step.objects.filter(pk__in=ids).transition([StepState.ERROR], StepState.SKIPPING, rescue=Rescue.SKIP, ended_at=None)
    asides = [
        Aside(plan_id=step.plan_id, action_id=step.action_id, queue=step.queue, phase=Phase.SKIP) for step in asked
    ]
    changed.ready += make_ready(asides)
    for step in asked:
        changed.active[step.plan_id] += 2  # the step itself and the aside
    return changed


def conclude(outcomes: Iterable[Outcome], running: Collection[UUID]) -> Changed:
    """Do what the ended asides of these outcomes decided. The plans must be locked."""
    changed = Changed()
    by_plan: dict[UUID, list[Step]] = {}
    for outcome in outcomes:
        skipping = Step.objects.filter(action_id=outcome.action_id, state=StepState.SKIPPING)
        if outcome.state == StepState.SUCCESS:
            by_plan.setdefault(outcome.plan_id, []).extend(skipping)
        elif skipping.transition(
            [StepState.SKIPPING], StepState.ERROR, error=outcome.error, rescue=Rescue.PAUSE, ended_at=Now()
        ):
            changed.active[outcome.plan_id] -= 1
    for plan_id, steps in by_plan.items():
        part = give_up(steps, running)
        changed.active.update(part.active)  # += would forget what is negative
        changed.active[plan_id] -= len(steps)
        changed.ready += part.ready
        changed.limits |= part.limits
    return changed


def give_up(steps: Sequence[Step], running: Collection[UUID]) -> Changed:
    """Skip these steps of one locked plan and what needs their output; nobody is asked any more.

    Steps that thereby wait for nothing become ready, if the plan is among `running`.
    """
    if not steps:
        return Changed()
    skipped = skipped_with(steps)
    Step.objects.filter(pk__in=[each.pk for each in skipped]).transition(
        [StepState.PENDING, StepState.ERROR, StepState.SKIPPING], StepState.SKIPPED, ended_at=Now()
    )
    released = _let_go(skipped, running)
    return Changed(released.by_plan, released.by_queue, released.limits)


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


def _let_go(skipped: Collection[Step], running: Collection[UUID]) -> Released:
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
    open_gates([each.pk for each in awaited if each.pk not in behind], ())
    # Not only what waited behind these gates: a plan that failed fast has taken other steps back.
    return release_frontier({each.plan_id for each in skipped}.intersection(running))
