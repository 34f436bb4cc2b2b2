"""Blocked: plans whose rows somebody else has locked, be it a person with a shell. They wait, and all others go on.

Whoever gave up waiting for a lock (`is_victim`) asks here which plans are free, acts on those, and leaves the others
for later with a growing pause. On SQLite, which has one writer, every plan is free.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import JSONField, Value
from django.db.models.expressions import RawSQL

from dynflow_app.models import ExecutionPlan
from dynflow_app.models.base import is_postgresql, ledger_alias, ledger_connection

SHORTEST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
A_WHILE = 2
"""Seconds after which a lock is worth a word: our own transactions are shorter."""


def free_plans(plan_ids: Collection[UUID]) -> set[UUID]:
    """Those of these plans that nobody else has locked: locked in the caller's transaction, or seen in one of its own
    to have been free a moment ago. Waits for nobody."""
    with transaction.atomic(using=ledger_alias()):
        plans = ExecutionPlan.objects.filter(pk__in=plan_ids).select_for_update(no_key=True, skip_locked=True)
        return set(plans.order_by("id").values_list("pk", flat=True))


def blocker() -> Any:
    """An expression for a query of plans: who has had the row locked for a while, as JSON with ``pid``, ``application``
    and ``seconds``; null if nobody has, or if this role may not see who."""
    if not is_postgresql(ledger_connection()):
        return Value(None, output_field=JSONField())
    sql = f"""(
        SELECT jsonb_build_object('pid', session.pid, 'application', session.application_name,
            'seconds', EXTRACT(EPOCH FROM clock_timestamp() - session.xact_start))
        FROM pg_stat_activity AS session
        WHERE session.backend_xid = {ExecutionPlan._meta.db_table}.xmax
            AND session.xact_start < clock_timestamp() - make_interval(secs => {A_WHILE}) LIMIT 1
    )"""  # noqa: S608 - names are ours
    return RawSQL(sql, [], output_field=JSONField())  # noqa: S611 - no value of anybody in it


def pause_after(seconds: float) -> float:
    """How long to leave something alone that has been blocked for so long."""
    return min(LONGEST_PAUSE, max(SHORTEST_PAUSE, seconds / 2))
