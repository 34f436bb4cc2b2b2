"""Storing: a plan exists whole or not at all. Any number of plans, with one bulk insert per table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from django.db.models import Model
from django.db.models.functions import Now

from dynflow_app.exceptions import WrongStateError
from dynflow_app.ledger.limiting import declare
from dynflow_app.messages import EnvelopeKind
from dynflow_app.models import (
    Action,
    Dependency,
    Envelope,
    ExecutionPlan,
    Gate,
    ResourceLink,
    ResourceLock,
    Step,
)
from dynflow_app.models.base import ledger_alias
from dynflow_app.planning.draft import Draft
from dynflow_app.states import Phase, PlanState, StepState

INSERT_BATCH = 2000


def store(drafts: Sequence[Draft]) -> None:
    """Write plans with all that belongs to them, and tell the orchestrator's inbox. In the caller's transaction."""
    for draft in drafts:
        draft.plan.state = PlanState.PLANNED
    insert(ExecutionPlan, [draft.plan for draft in drafts])
    insert(Action, [action for draft in drafts for action in draft.actions])
    _store_steps(drafts)
    insert(Envelope, [Envelope(kind=EnvelopeKind.PLANNED.value, plan=draft.plan) for draft in drafts])


def store_started(drafts: Sequence[Draft]) -> Counter[str]:
    """As `store`, but plans about which there is nothing to decide are started here, not by the orchestrator.

    Returns queue to number of their steps that are ready. Only for callers whose transaction is short: claims find
    these steps as soon as it is committed.
    """
    ready: Counter[str] = Counter()
    others = []
    for draft in drafts:
        if _has_to_be_decided_about(draft):
            others.append(draft)
            continue
        draft.plan.state, draft.plan.started_at = PlanState.RUNNING, Now()
        for step in _first(draft):
            step.state, step.ready_at = StepState.READY, Now()
            draft.plan.active_steps += 1
            ready[step.queue] += 1
    store(others)
    started = [draft for draft in drafts if draft not in others]
    insert(ExecutionPlan, [draft.plan for draft in started])
    insert(Action, [action for draft in started for action in draft.actions])
    _store_steps(started)
    return ready


def _has_to_be_decided_about(draft: Draft) -> bool:
    """Whether its start depends on others, or on a timer."""
    first = _first(draft)
    is_limited = draft.limits or draft.plan.has_locks or draft.plan.singleton is not None
    return bool(is_limited) or not first or any(step.limit_key or step.start_timeout for step in draft.steps)


def _first(draft: Draft) -> list[Step]:
    """The run steps that wait for nothing."""
    return [step for step in draft.steps if step.phase == Phase.RUN and step.number not in draft.gate_of]


def store_unplanned(plans: Sequence[tuple[ExecutionPlan, str, dict[str, Any]]]) -> None:
    """Write plans that a worker of the given queue plans later, with their encoded arguments; in the caller's
    transaction. The orchestrator's inbox is told to look at each at its ``start_at``, or now."""
    actions, steps, envelopes = [], [], []
    for plan, queue, arguments in plans:
        plan.state, plan.queue = PlanState.SCHEDULED, queue
        action = Action(plan=plan, number=1, name=plan.action, input=arguments)
        actions.append(action)
        steps.append(
            Step(plan=plan, action=action, number=0, phase=Phase.PLAN, queue=queue, priority=plan.priority,
                 is_idempotent=True, weight=0.0)
        )  # fmt: skip
        envelopes.append(_look_at(plan, plan.start_at))
        if plan.start_before is not None:
            envelopes.append(_look_at(plan, plan.start_before))
    insert(ExecutionPlan, [plan for plan, _, _ in plans])
    insert(Action, actions)
    insert(Step, steps)
    insert(Envelope, envelopes)


def store_planned(draft: Draft, entry_id: int) -> None:
    """Write what a worker planned; the plan and its entry action, of that key, are there already.

    In the transaction that ran the plan phase. Raises `WrongStateError` if the plan is not being planned any more.
    """
    plan, entry = draft.plan, draft.actions[0]
    planned = ExecutionPlan.objects.filter(pk=plan.pk).transition(
        [PlanState.PLANNING],
        PlanState.PLANNED,
        queue=plan.queue,
        fail_fast=plan.fail_fast,
        has_finalize=plan.has_finalize,
        hooks=plan.hooks,
        has_locks=plan.has_locks,
    )
    if not planned:
        raise WrongStateError("This plan was ended while it was being planned; nothing of it is kept.")
    entry.pk = entry_id
    entry._state.adding = False
    entry.save(update_fields=["input", "consumes"], using=ledger_alias())
    insert(Action, draft.actions[1:])
    _store_steps([draft])


def _look_at(plan: ExecutionPlan, due_at: Any) -> Envelope:
    envelope = Envelope(kind=EnvelopeKind.PLANNED.value, plan=plan)
    if due_at is not None:
        envelope.due_at = due_at
    return envelope


def _store_steps(drafts: Sequence[Draft]) -> None:
    gates = [_gates(draft) for draft in drafts]
    insert(Gate, [gate for of_plan in gates for gate in of_plan])
    for draft, of_plan in zip(drafts, gates, strict=True):
        for number, position in draft.gate_of.items():
            draft.steps[number - 1].gate = of_plan[position]
    insert(Step, [step for draft in drafts for step in draft.steps])
    insert(
        Dependency,
        [d for draft, of_plan in zip(drafts, gates, strict=True) for d in _dependencies(draft, of_plan)],
    )
    insert(ResourceLock, [lock for draft in drafts for lock in draft.locks.values()])
    links = [(draft.plan, key) for draft in drafts for key in sorted(draft.links)]
    insert(ResourceLink, [ResourceLink(plan=plan, resource=key) for plan, key in links])
    limits = {key: limit for draft in drafts for key, limit in draft.limits.items()}
    if limits:
        declare([(key, most, rate) for key, (most, rate) in limits.items()])


def _gates(draft: Draft) -> list[Gate]:
    awaited = {position for spec in draft.flow.gates for position in spec.gates}
    return [
        Gate(plan=draft.plan, waits_for=len(spec.steps) + len(spec.gates), is_awaited=position in awaited)
        for position, spec in enumerate(draft.flow.gates)
    ]


def _dependencies(draft: Draft, gates: list[Gate]) -> Iterator[Dependency]:
    for gate, spec in zip(gates, draft.flow.gates, strict=True):
        for number in spec.steps:
            yield Dependency(gate=gate, step=draft.steps[number - 1])
        for position in spec.gates:
            yield Dependency(gate=gate, after_gate=gates[position])


def insert(model: type[Model], rows: list[Any]) -> None:  # rows of `model`
    """Write rows in bulk, none without a statement."""
    if rows:
        model._default_manager.bulk_create(rows, batch_size=INSERT_BATCH)
