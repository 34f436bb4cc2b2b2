"""Locks, as workers and verbs see them: they ask, and write an envelope. The orchestrator grants and releases."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from uuid import UUID

from django.db.backends.base.base import BaseDatabaseWrapper

from dynflow_app.messages import EnvelopeKind, Outcome
from dynflow_app.models import Envelope, ExecutionPlan, ResourceLink, ResourceLock
from dynflow_app.models.base import ledger_connection, values_table
from dynflow_app.states import SINGLETON_STATES, LockState

_LOCK = ResourceLock._meta.db_table


def tell_released(plan_ids: Collection[UUID]) -> None:
    """Let the orchestrator release what these plans do not need any more."""
    if plan_ids:
        Envelope.objects.bulk_create(
            Envelope(kind=EnvelopeKind.RELEASED.value, plan_id=plan_id) for plan_id in plan_ids
        )


def unlock(outcomes: Sequence[Outcome]) -> int:
    """Ask for the release of what these accepted outcomes unlocked; returns of how many plans."""
    wishes = {(outcome.plan_id, key) for outcome in outcomes for key in outcome.unlocked or ()}
    connection = ledger_connection()
    rows = [(db_key(plan_id, connection), key) for plan_id, key in wishes]
    table, parameters = values_table(connection, {"plan_id": "uuid", "resource": "text"}, rows)
    sql = f"""
        UPDATE {_LOCK} SET is_release_requested = true, reason = 'unlocked by the plan'
        FROM {table} AS wish
        WHERE {_LOCK}.plan_id = wish.plan_id AND {_LOCK}.resource = wish.resource
            AND state = 'held' AND NOT is_release_requested
        RETURNING {_LOCK}.plan_id
    """  # noqa: S608 - names are ours
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        plans = {ExecutionPlan._meta.pk.to_python(row[0]) for row in cursor.fetchall()}
    tell_released(plans)
    return len(plans)


def request_release(plan: ExecutionPlan, resource: str | None, reason: str) -> list[str]:
    """Ask for the release of what this locked plan holds, or of one resource; returns which these are."""
    held = ResourceLock.objects.filter(plan=plan, state=LockState.HELD, is_release_requested=False)
    if resource is not None:
        held = held.filter(resource=resource)
    found = {lock.pk: lock.name for lock in held}
    if found:
        ResourceLock.objects.filter(pk__in=found).update(is_release_requested=True, reason=reason)
        tell_released([plan.pk])
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


def db_key(plan_id: UUID, connection: BaseDatabaseWrapper) -> object:
    """A plan's key as the database has it."""
    key: object = ExecutionPlan._meta.pk.get_db_prep_value(plan_id, connection)
    return key
