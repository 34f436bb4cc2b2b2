"""Control: the verbs of operators. Admin, REST and commands only call these.

Each is one transaction of its own (or part of the caller's), guarded by the state it expects, with an entry in the
plan's history. Of two people at once one wins and the other gets `WrongStateError`, saying what is there now.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Any

from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now

from dynflow_app import transport
from dynflow_app.exceptions import WrongStateError
from dynflow_app.ledger.releasing import open_gates, release_frontier
from dynflow_app.messages import EnvelopeKind
from dynflow_app.models import Action, Dependency, Envelope, ExecutionPlan, Gate, HistoryEntry, Step
from dynflow_app.models.base import ledger_alias
from dynflow_app.states import Phase, PlanResult, PlanState, StepState


def resume(plan: ExecutionPlan, *, by: Any = "", reason: str = "") -> None:
    """Let a paused plan go on: its failed steps run again, those that succeeded never do.

    Refreshes `plan`. Raises `WrongStateError` unless it is paused.
    """
    with transaction.atomic(using=ledger_alias()):
        _lock(plan, PlanState.PAUSED, "resumed")
        failed = Step.objects.filter(plan=plan, state=StepState.ERROR)
        failed.transition([StepState.ERROR], StepState.PENDING, world=None, ended_at=None)
        released = release_frontier([plan.pk])
        ready = released.by_plan[plan.pk]
        ExecutionPlan.objects.filter(pk=plan.pk).transition(
            [PlanState.PAUSED],
            PlanState.RUNNING,
            result=PlanResult.PENDING,
            active_steps=ready,
            revision=F("revision") + 1,
        )
        if not ready:
            Envelope.objects.create(kind=EnvelopeKind.SETTLED.value, plan=plan)
        _note(plan, "resume", by, reason)
        _ring_after_commit(released.by_queue)
    plan.refresh_from_db()


def skip(step: Step, *, by: Any = "", reason: str = "") -> list[Step]:
    """Give up a failed step of a paused plan, with all that needs its output. The plan stays paused.

    Skipped with it: steps whose input refers to its output, and so on, and the finalize steps of all their actions.
    Returns the skipped steps. Raises `WrongStateError` unless the plan is paused and the step failed.
    """
    with transaction.atomic(using=ledger_alias()):
        plan = ExecutionPlan.objects.get(pk=step.plan_id)
        _lock(plan, PlanState.PAUSED, "changed")
        skipped = _skipped_with(step)
        ids = [each.pk for each in skipped]
        moved = Step.objects.filter(pk=step.pk).transition([StepState.ERROR], StepState.SKIPPED, ended_at=Now())
        if not moved:
            step.refresh_from_db()
            raise WrongStateError(
                f"Step {step.number} is {step.state}; only a step in error can be skipped.", state=step.state
            )
        Step.objects.filter(pk__in=ids).transition(
            [StepState.PENDING, StepState.ERROR], StepState.SKIPPED, ended_at=Now()
        )
        _let_go(skipped)
        ExecutionPlan.objects.filter(pk=plan.pk).update(revision=F("revision") + 1)
        _note(plan, "skip", by, reason, step.number)
    return list(Step.objects.filter(pk__in=ids).order_by("number"))


def skip_preview(step: Step) -> list[Step]:
    """The steps that `skip` would skip, `step` among them. Changes nothing."""
    return _skipped_with(step)


def _skipped_with(step: Step) -> list[Step]:
    """`step`, the steps that need its output, and the finalize steps of their actions, unless they have ended."""
    if step.phase != Phase.RUN:
        return [step]
    numbers = _consumers(step.plan_id, {Action.objects.get(pk=step.action_id).number})
    steps = Step.objects.filter(plan_id=step.plan_id, action__number__in=numbers).order_by("number")
    return [each for each in steps if each.state in (StepState.PENDING, StepState.ERROR)]


def _consumers(plan_id: Any, numbers: Collection[int]) -> set[int]:
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


def _let_go(skipped: Collection[Step]) -> None:
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
    open_gates([each.pk for each in awaited if each.pk not in behind], [])


def _lock(plan: ExecutionPlan, expected: PlanState, verb: str) -> None:
    if not isinstance(plan, ExecutionPlan):
        raise TypeError(f"This verb takes an ExecutionPlan, not {plan!r}.")
    locked = ExecutionPlan.objects.filter(pk=plan.pk).lock().first()
    if locked is None:
        raise WrongStateError(f"Plan {plan.pk} does not exist any more.", state=None)
    if locked.state != expected:
        raise WrongStateError(
            f"Plan {plan.pk} is {locked.state} and cannot be {verb}; it would have to be {expected}.",
            state=locked.state,
        )


def _note(plan: ExecutionPlan, verb: str, by: Any, reason: str, step_number: int | None = None) -> None:
    HistoryEntry.objects.create(plan=plan, verb=verb, actor=str(by)[:255], reason=reason, step_number=step_number)


def _ring_after_commit(ready: Counter[str]) -> None:
    def ring() -> None:
        bell = transport.get()
        bell.ring_queues(ready)
        bell.ring_orchestrator()

    transaction.on_commit(ring, using=ledger_alias(), robust=True)
