"""Freeze and unfreeze: hold a plan that has not started."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from dynflow_app.control.common import lock, note
from dynflow_app.exceptions import WrongStateError
from dynflow_app.ledger.concluding import conclude, ring_after_commit
from dynflow_app.ledger.effects import Effects
from dynflow_app.models import ExecutionPlan
from dynflow_app.models.base import ledger_alias
from dynflow_app.states import WAITING_PLAN_STATES


def freeze(plan: ExecutionPlan, *, by: Any = "", reason: str = "") -> None:
    """Let a plan that has not started wait until `unfreeze`, even if its start time passes. Refreshes `plan`.

    Raises `WrongStateError` if it has started, or is frozen.
    """
    _set(plan, is_frozen=True, verb="freeze", by=by, reason=reason)


def unfreeze(plan: ExecutionPlan, *, by: Any = "", reason: str = "") -> None:
    """Let a frozen plan start, at its start time or now if that has passed. Refreshes `plan`.

    Raises `WrongStateError` if it is not frozen.
    """
    _set(plan, is_frozen=False, verb="unfreeze", by=by, reason=reason)


def _set(plan: ExecutionPlan, *, is_frozen: bool, verb: str, by: Any, reason: str) -> None:
    effects = Effects()
    with transaction.atomic(using=ledger_alias()):
        locked = lock(plan, WAITING_PLAN_STATES, "frozen" if is_frozen else "unfrozen")
        if locked.is_frozen == is_frozen:
            raise WrongStateError(f"Plan {plan.pk} is {'' if is_frozen else 'not '}frozen already.", state=locked.state)
        ExecutionPlan.objects.filter(pk=plan.pk).update(is_frozen=is_frozen, is_waiting=False)
        if not is_frozen:  # its start time may have passed meanwhile
            effects.to_start.add(plan.pk)
        elif locked.has_locks:
            effects.to_unlock.add(plan.pk)  # while it is frozen nobody waits behind it
        note(plan, verb, by, reason)
        ring_after_commit(conclude(effects))
    plan.refresh_from_db()
