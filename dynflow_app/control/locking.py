"""Release locks that a plan still holds: an operator's last resort."""

from __future__ import annotations

from collections import Counter
from typing import Any

from django.db import transaction

from dynflow_app.control.common import lock, note, ring_after_commit
from dynflow_app.exceptions import WrongStateError
from dynflow_app.ledger.locking import request_release
from dynflow_app.models import ExecutionPlan
from dynflow_app.models.base import ledger_alias
from dynflow_app.models.resource_lock import resource_key
from dynflow_app.states import PlanState


def release_locks(plan: ExecutionPlan, *, by: Any = "", reason: str, resource: object = None) -> list[str]:
    """Take its locks from a plan that runs or is paused, or only that of one `resource`; returns what it held.

    The plan goes on without them, so be sure that it does no harm: halt it rather, if it should not go on. The
    orchestrator gives them to whoever is next. Raises ValueError without a reason, `PlanningError` for what is no
    resource, and `WrongStateError` if the plan has stopped, or does not hold them.
    """
    if not reason.strip():
        raise ValueError("release_locks() takes locks from a plan that counts on them: give a reason.")
    key = None if resource is None else resource_key(resource)
    with transaction.atomic(using=ledger_alias()):
        locked = lock(plan, [PlanState.RUNNING, PlanState.PAUSED], "made to release locks")
        who = f"released by {by}" if str(by) else "released"
        released = request_release(locked, key, f"{who}: {reason}")
        if not released:
            what = "no locks" if key is None else f"no lock of {key.partition(':')[2]}"
            raise WrongStateError(f"Plan {plan.pk} holds {what}.", state=locked.state)
        note(plan, "release locks", by, f"{', '.join(released)}: {reason}")
        ring_after_commit(Counter())
    return released
