"""Locks, as workers and verbs see them: they ask, and write an envelope. The orchestrator grants and unlocks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from uuid import UUID

from dynflow_app.ledger.effects import Effects
from dynflow_app.messages import Outcome
from dynflow_app.models import ExecutionPlan, ResourceLink, ResourceLock
from dynflow_app.models.base import db_key, execute, from_db_key, ledger_connection, values_table
from dynflow_app.states import SINGLETON_STATES, LockState

_LOCK = ResourceLock._meta.db_table


def unlock(outcomes: Sequence[Outcome], effects: Effects) -> None:
    """Ask that what these accepted outcomes unlocked is unlocked."""
    asked = {(outcome.plan_id, key) for outcome in outcomes for key in outcome.unlocked or ()}
    connection = ledger_connection()
    rows = [(db_key(plan_id, connection), key) for plan_id, key in asked]
    table, parameters = values_table(connection, {"plan_id": "uuid", "resource": "text"}, rows)
    sql = f"""
        UPDATE {_LOCK} SET is_unlock_requested = true, reason = 'unlocked by the plan'
        FROM {table} AS asked
        WHERE {_LOCK}.plan_id = asked.plan_id AND {_LOCK}.resource = asked.resource
            AND state = 'held' AND NOT is_unlock_requested
        RETURNING {_LOCK}.plan_id
    """  # noqa: S608 - names are ours
    effects.to_unlock.update(from_db_key(row[0]) for row in execute(sql, parameters))


def request_unlock(plan: ExecutionPlan, resource: str | None, reason: str, effects: Effects) -> list[str]:
    """Ask that what this locked plan holds is unlocked, or one resource; returns which these are."""
    held = ResourceLock.objects.filter(plan=plan, state=LockState.HELD, is_unlock_requested=False)
    if resource is not None:
        held = held.filter(resource=resource)
    found = {lock.pk: lock.name for lock in held}
    if found:
        ResourceLock.objects.filter(pk__in=found).update(is_unlock_requested=True, reason=reason)
        effects.to_unlock.add(plan.pk)
    return sorted(found.values())


def active_singletons(singletons: Iterable[str]) -> dict[str, UUID]:
    """For each of these that is taken, the plan that has it."""
    active = ExecutionPlan.objects.filter(singleton__in=set(singletons), state__in=SINGLETON_STATES)
    return {str(singleton): plan_id for singleton, plan_id in active.values_list("singleton", "id")}


def copied(source: ExecutionPlan, plan: ExecutionPlan) -> tuple[list[ResourceLock], list[ResourceLink]]:
    """What a plan made from `source` has to lock and is about: it does, or undoes, the same. Writes nothing."""
    locks = ResourceLock.objects.filter(plan=source).order_by("id") if source.has_locks else ()
    return [
        ResourceLock(plan=plan, resource=lock.resource, is_shared=lock.is_shared, on_conflict=lock.on_conflict)
        for lock in locks
    ], [ResourceLink(plan=plan, resource=link.resource) for link in ResourceLink.objects.filter(plan=source)]
