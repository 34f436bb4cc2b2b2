"""What the verbs share: the plan's lock, the note in its history, the bells."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction

from dynflow_app.exceptions import WrongStateError
from dynflow_app.ledger import history
from dynflow_app.ledger.concluding import ring_after_commit
from dynflow_app.ledger.effects import Effects
from dynflow_app.ledger.locking import active_singletons
from dynflow_app.models import ExecutionPlan, Step
from dynflow_app.models.base import ledger_alias
from dynflow_app.states import PlanState


def lock(plan: ExecutionPlan, expected: Collection[PlanState], verb: str) -> ExecutionPlan:
    """The plan as it is now, locked until the transaction ends. Raises `WrongStateError` unless its state is among
    `expected`."""
    if not isinstance(plan, ExecutionPlan):
        raise TypeError(f"This verb takes an ExecutionPlan, not {plan!r}.")
    return lock_by_key(plan.pk, expected, verb)


def lock_by_key(plan_id: UUID, expected: Collection[PlanState], verb: str) -> ExecutionPlan:
    """As `lock`."""
    locked = ExecutionPlan.objects.filter(pk=plan_id).lock().first()
    if locked is None:
        raise WrongStateError(f"Plan {plan_id} does not exist any more.", state=None)
    if locked.state not in expected:
        wanted = " or ".join(sorted(expected))
        raise WrongStateError(
            f"Plan {plan_id} is {locked.state} and cannot be {verb}; it would have to be {wanted}.",
            state=locked.state,
        )
    return locked


def fresh(step: Step) -> Step:
    """The step as it is now; its plan must be locked. Raises `WrongStateError` if it is gone."""
    if not isinstance(step, Step):
        raise TypeError(f"This verb takes a Step, not {step!r}.")
    found = Step.objects.select_related("action").filter(pk=step.pk).first()
    if found is None:
        raise WrongStateError(f"Step {step.number} does not exist any more.", state=None)
    return found


@contextmanager
def as_singleton(plan: ExecutionPlan, verb: str) -> Iterator[None]:
    """Raise `WrongStateError` if what is done inside would make a second plan of a singleton active."""
    if plan.singleton is None:
        yield
        return
    try:
        with transaction.atomic(using=ledger_alias()):
            yield
    except IntegrityError as error:
        found = active_singletons([plan.singleton]).get(plan.singleton)
        if found is None:
            raise
        raise WrongStateError(
            f"Plan {found} of {plan.singleton} is active, and only one may be: plan {plan.pk} cannot be {verb} until "
            "that has stopped or paused.",
            state=plan.state,
        ) from error


def note(plan: ExecutionPlan, verb: str, by: Any, reason: str, step_number: int | None = None) -> None:
    """Write down who did what, and let pages notice."""
    history.note([plan.pk], verb, by, reason, step_number)


def ring_orchestrator_after_commit() -> None:
    """Tell the orchestrator about an envelope."""
    ring_after_commit(Effects(rings_orchestrator=True))
