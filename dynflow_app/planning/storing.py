"""Storing: a plan exists whole or not at all. Any number of plans, with a fixed number of statements."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from dynflow_app import clock
from dynflow_app.exceptions import WrongStateError
from dynflow_app.ledger.effects import Effects
from dynflow_app.ledger.inserting import insert, insert_plans
from dynflow_app.ledger.limits import declare
from dynflow_app.ledger.rows import ActionRow, PlanRows, StepRow
from dynflow_app.messages import EnvelopeKind
from dynflow_app.models import Action, Envelope, ExecutionPlan
from dynflow_app.planning.draft import Draft
from dynflow_app.states import Phase, PlanState


def store(drafts: Sequence[Draft]) -> Effects:
    """Write plans with all that belongs to them; in the caller's transaction.

    Plans about which there is nothing to decide are started at once: claims find their first steps as soon as the
    transaction is committed. The orchestrator's inbox is told of the others.
    """
    effects = Effects()
    others = []
    for draft in drafts:
        if _has_to_be_decided_about(draft):
            draft.plan.state = PlanState.PLANNED
            others.append(draft.plan.pk)
        else:
            _start(draft, effects)
    insert_plans([draft.rows() for draft in drafts])
    _declare_limits(drafts)
    if others:
        Envelope.objects.send(EnvelopeKind.PLANNED, others)
        effects.rings_orchestrator = True
    return effects


def store_unplanned(plans: Sequence[tuple[ExecutionPlan, str, dict[str, Any]]]) -> None:
    """Write plans that a worker of the given queue plans later, with their encoded arguments; in the caller's
    transaction. The orchestrator's inbox is told to look at each at its ``start_at``, or now."""
    rows = []
    for plan, queue, arguments in plans:
        plan.state, plan.queue = PlanState.SCHEDULED, queue
        action = ActionRow(1, plan.action, None, arguments)
        step = StepRow(action, 0, Phase.PLAN, queue, plan.priority, is_idempotent=True, weight=0.0)
        rows.append(PlanRows(plan, [action], [step]))
    insert_plans(rows)
    looks = [(plan.pk, plan.start_at) for plan, _, _ in plans]
    looks += [(plan.pk, plan.start_before) for plan, _, _ in plans if plan.start_before is not None]
    Envelope.objects.send_each(EnvelopeKind.PLANNED, looks)


def store_planned(draft: Draft, entry_id: int) -> None:
    """Write what a worker planned; the plan and its entry action, of that key, are there already.

    In the transaction that ran the plan phase. Raises `WrongStateError` if the plan is not being planned any more.
    """
    plan, entry = draft.plan, draft.actions[0]
    planned = ExecutionPlan.objects.filter(pk=plan.pk).end_planning(
        queue=plan.queue,
        fail_fast=plan.fail_fast,
        has_finalize=plan.has_finalize,
        hooks=plan.hooks,
        has_locks=plan.has_locks,
        fairness_key=plan.fairness_key,
        fairness_weight=plan.fairness_weight,
    )
    if not planned:
        raise WrongStateError("This plan was ended while it was being planned; nothing of it is kept.")
    entry.pk = entry_id
    Action.objects.filter(pk=entry_id).update(input=entry.input, consumes=entry.consumes)
    insert_plans([draft.rows(is_known=True)])
    _declare_limits([draft])


def store_failures(failures: Iterable[tuple[ExecutionPlan, dict[str, Any]]]) -> None:
    """Store plans whose plan phase failed: stopped, with the error to look at."""
    insert([plan.as_failed(error) for plan, error in failures])


def _has_to_be_decided_about(draft: Draft) -> bool:
    """Whether its start depends on others, or on a timer."""
    first = draft.first_steps
    is_limited = draft.limits or draft.plan.has_locks or draft.plan.singleton is not None
    return bool(is_limited) or not first or any(step.limit_key or step.start_timeout for step in first)


def _start(draft: Draft, effects: Effects) -> None:
    first = draft.first_steps
    draft.plan.state, draft.plan.started_at, draft.plan.active_steps = PlanState.RUNNING, clock.now(), len(first)
    for step in first:
        step.is_ready = True
        effects.ready[step.queue] += 1


def _declare_limits(drafts: Sequence[Draft]) -> None:
    limits = {key: limit for draft in drafts for key, limit in draft.limits.items()}
    if limits:
        declare([(key, most, rate) for key, (most, rate) in limits.items()])
