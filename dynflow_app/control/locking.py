"""Unlock what a plan still holds: an operator's last resort."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from dynflow_app.control.common import lock, note
from dynflow_app.exceptions import WrongStateError
from dynflow_app.ledger.concluding import conclude, ring_after_commit
from dynflow_app.ledger.effects import Effects
from dynflow_app.ledger.locking import request_unlock
from dynflow_app.models import ExecutionPlan
from dynflow_app.models.base import ledger_alias
from dynflow_app.models.resource_lock import resource_key
from dynflow_app.states import PlanState


def unlock(plan: ExecutionPlan, *, by: Any = "", reason: str, resource: object = None) -> list[str]:
    """Take its locks from a plan that runs or is paused, or only that of one `resource`; returns what it held.

    The plan goes on without them, so be sure that it does no harm: halt it rather, if it should not go on. The
    orchestrator gives them to whoever is next. Raises ValueError without a reason, `PlanningError` for what is no
    resource, and `WrongStateError` if the plan has stopped, or does not hold them.
    """
    if not reason.strip():
        raise ValueError("unlock() takes locks from a plan that counts on them: give a reason.")
    key = None if resource is None else resource_key(resource)
    effects = Effects()
    with transaction.atomic(using=ledger_alias()):
        locked = lock(plan, [PlanState.RUNNING, PlanState.PAUSED], "made to unlock")
        who = f"unlocked by {by}" if str(by) else "unlocked"
        unlocked = request_unlock(locked, key, f"{who}: {reason}", effects)
        if not unlocked:
            what = "no locks" if key is None else f"no lock of {key.partition(':')[2]}"
            raise WrongStateError(f"Plan {plan.pk} holds {what}.", state=locked.state)
        note(plan, "unlock", by, f"{', '.join(unlocked)}: {reason}")
        ring_after_commit(conclude(effects))
    return unlocked
