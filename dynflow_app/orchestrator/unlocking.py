"""Locks: released, and offered to whoever is next in line. Each release looks at the head of a line, however long."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from uuid import UUID

from django.db.models import Q
from django.db.models.functions import Now

from dynflow_app.ledger.locking import db_key
from dynflow_app.messages import EnvelopeKind
from dynflow_app.models import Envelope, ExecutionPlan, ResourceLock
from dynflow_app.models.base import is_any_of, ledger_connection, now_sql, values_table
from dynflow_app.orchestrator.granting import FRONT, ancestors, blocked_by
from dynflow_app.states import LockState, PlanState

_LOCK = ResourceLock._meta.db_table
_PLAN = ExecutionPlan._meta.db_table


def release(plan_ids: Collection[UUID]) -> None:
    """Release what these plans do not need any more: everything if they have stopped, otherwise what was asked for.
    A plan that was frozen leaves the line. Whoever may be next gets an envelope."""
    if not plan_ids:
        return
    connection = ledger_connection()
    now = now_sql(connection)
    inside, parameters = is_any_of(connection, f"{_LOCK}.plan_id", [db_key(each, connection) for each in plan_ids])
    released = f"""
        UPDATE {_LOCK} SET state = 'released', released_at = {now},
            reason = CASE WHEN {_LOCK}.reason = '' THEN 'the plan stopped' ELSE {_LOCK}.reason END
        FROM {_PLAN} AS plan WHERE plan.id = {_LOCK}.plan_id AND {inside} AND {_LOCK}.state <> 'released'
            AND (plan.state = 'stopped' OR ({_LOCK}.is_release_requested AND {_LOCK}.state = 'held'))
        RETURNING {_LOCK}.resource, {_LOCK}.is_shared
    """  # noqa: S608 - names are ours
    left = f"""
        UPDATE {_LOCK} SET state = 'requested', place = NULL, lane = 0, queued_at = NULL
        FROM {_PLAN} AS plan WHERE plan.id = {_LOCK}.plan_id AND {inside} AND {_LOCK}.state = 'waiting'
            AND plan.is_frozen
        RETURNING {_LOCK}.resource, {_LOCK}.is_shared
    """  # noqa: S608 - names are ours
    freed: dict[str, bool] = {}
    with connection.cursor() as cursor:
        for sql in (released, left):
            cursor.execute(sql, parameters)
            for resource, is_shared in cursor.fetchall():
                freed[resource] = freed.get(resource, False) or not is_shared
    call(next_in_line(freed))


def next_in_line(freed: dict[str, bool]) -> list[UUID]:
    """Plans at the head of these resources' lines that may be able to start: the first one, or all that want to share
    it; and the same for the sub-plans of each step that pass the line. The value says whether it was held (or waited
    for) exclusively: if not, nobody who shares waited for that."""
    if not freed:
        return []
    connection = ledger_connection()
    rows = [(key, int(was_exclusive)) for key, was_exclusive in freed.items()]
    table, parameters = values_table(connection, {"resource": "text", "was_exclusive": "int"}, rows)
    nobody = "CAST(NULL AS bigint)"

    def first(shared: str) -> str:
        return f"""(SELECT MIN(place) FROM {_LOCK} AS lock WHERE lock.resource = freed.resource
            AND lock.state = 'waiting' AND lock.is_shared = {shared} AND lock.place > -{FRONT})"""  # noqa: S608 - names are ours

    def passing(shared: str, alone: str, together: str) -> str:
        return f"""SELECT freed.resource, lock.lane, {alone} AS alone, {together} AS together
            FROM freed JOIN {_LOCK} AS lock ON lock.resource = freed.resource AND lock.state = 'waiting'
                AND lock.is_shared = {shared} AND lock.place < -{FRONT}"""  # noqa: S608 - names are ours

    def waiting(shared: str) -> str:
        return f"""{_LOCK} AS mine ON mine.resource = head.resource AND mine.state = 'waiting'
            AND mine.is_shared = {shared} AND mine.lane = head.lane"""

    sql = f"""
        WITH freed AS (SELECT * FROM {table} AS given),
        head AS (
            SELECT freed.resource, 0 AS lane, {first("false")} AS alone, {first("true")} AS together FROM freed
            UNION ALL
            SELECT resource, lane, MIN(alone), MIN(together) FROM (
                {passing("false", "lock.place", nobody)} UNION ALL {passing("true", nobody, "lock.place")}
            ) AS passing GROUP BY resource, lane
        )
        SELECT mine.plan_id FROM head JOIN {waiting("false")} AND mine.place = head.alone
        WHERE (head.together IS NULL OR head.alone < head.together)
            AND (head.alone < 0 OR NOT EXISTS (
                SELECT 1 FROM {_LOCK} AS held WHERE held.resource = head.resource AND held.state = 'held'
            ))
        UNION
        SELECT mine.plan_id FROM head JOIN freed ON freed.resource = head.resource AND freed.was_exclusive = 1
        JOIN {waiting("true")} AND mine.place < COALESCE(head.alone, {2 * FRONT})
    """  # noqa: S608 - names are ours
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return [ExecutionPlan._meta.pk.to_python(row[0]) for row in cursor.fetchall()]


def call(plan_ids: Iterable[UUID]) -> None:
    """Let the orchestrator look at these waiting plans."""
    Envelope.objects.bulk_create(Envelope(kind=EnvelopeKind.PLANNED.value, plan_id=plan_id) for plan_id in plan_ids)


def mend(most: int) -> int:
    """Write envelopes that are missing: for plans that should release something, and for those that nothing keeps from
    starting; returns how many."""
    locks = ResourceLock.objects.order_by()
    over = locks.live().filter(Q(plan__state=PlanState.STOPPED) | Q(is_release_requested=True, state=LockState.HELD))
    frozen = locks.filter(state=LockState.WAITING, plan__is_frozen=True)
    stale = {*over.values_list("plan_id", flat=True)[:most], *frozen.values_list("plan_id", flat=True)[:most]}
    resources = locks.filter(state=LockState.WAITING).values_list("resource", flat=True).distinct()
    heads = next_in_line(dict.fromkeys(resources, True))[:most]
    parents = ExecutionPlan.objects.filter(id__in=heads).values_list("id", "parent_step_id")
    kin = ancestors({plan_id: step for plan_id, step in parents if step})
    blocked = blocked_by(heads, kin) if heads else {}
    forgotten = {
        EnvelopeKind.RELEASED: stale,
        EnvelopeKind.PLANNED: {plan_id for plan_id in heads if plan_id not in blocked},
    }
    written = 0
    for kind, plan_ids in forgotten.items():
        unread = Envelope.objects.filter(kind=kind.value, plan_id__in=plan_ids, due_at__lte=Now())
        missing = plan_ids - set(unread.values_list("plan_id", flat=True)) if plan_ids else set()
        Envelope.objects.bulk_create(Envelope(kind=kind.value, plan_id=plan_id) for plan_id in missing)
        written += len(missing)
    return written
