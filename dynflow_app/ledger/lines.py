"""Lines: who waits for which resource, and whose turn it is. Only the leader changes them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID

from dynflow_app.models import ExecutionPlan, ResourceLock
from dynflow_app.models.base import (
    db_key,
    execute,
    from_db_key,
    is_any_of,
    ledger_connection,
    now_sql,
    values_table,
)
from dynflow_app.states import LOCK_TRANSITIONS, LockState, require_legal

FRONT = 2**61
"""Places of those who come before others are smaller by this, or by twice this."""
_LOCK = ResourceLock._meta.db_table
_PLAN = ExecutionPlan._meta.db_table


def last_turn() -> int:
    """The last turn that was given to anybody."""
    ranges = ("place > 0", f"place < 0 AND place > -{FRONT}", f"place < -{FRONT}")
    latest = ", ".join(f"(SELECT MAX(place) FROM {_LOCK} WHERE {where})" for where in ranges)  # noqa: S608 - names are ours
    places = execute(f"SELECT {latest}")[0]
    return max((place + n * FRONT for n, place in enumerate(places) if place is not None), default=0)


def enter(places: Sequence[tuple[UUID, int, int]]) -> None:
    """Put plans in line for what they request: plan, place and lane."""
    require_legal(LOCK_TRANSITIONS, [LockState.REQUESTED], LockState.WAITING)
    connection = ledger_connection()
    rows = [(db_key(plan_id, connection), place, lane) for plan_id, place, lane in places]
    table, parameters = values_table(connection, {"plan_id": "uuid", "place": "bigint", "lane": "bigint"}, rows)
    sql = f"""
        UPDATE {_LOCK} SET state = 'waiting', place = line.place, lane = line.lane, queued_at = {now_sql(connection)}
        FROM {table} AS line WHERE {_LOCK}.plan_id = line.plan_id AND {_LOCK}.state = 'requested'
    """  # noqa: S608 - names are ours
    execute(sql, parameters)


def blocked_by(plan_ids: Collection[UUID], pairs: Collection[tuple[UUID, UUID]] = ()) -> dict[UUID, list[str]]:
    """Those of these plans in line that cannot have their locks, and the resources that keep them. `pairs` are plans
    and their ancestors, which do not conflict."""
    connection = ledger_connection()
    inside, parameters = is_any_of(connection, "mine.plan_id", [db_key(plan_id, connection) for plan_id in plan_ids])
    unrelated = ""
    related: list[Any] = []
    if pairs:
        rows = [(db_key(plan_id, connection), db_key(ancestor, connection)) for plan_id, ancestor in pairs]
        table, related = values_table(connection, {"plan_id": "uuid", "ancestor": "uuid"}, rows)
        unrelated = f"AND (mine.plan_id, other.plan_id) NOT IN (SELECT plan_id, ancestor FROM {table} AS kin)"  # noqa: S608 - as below

    def exists(state: str, shared: str) -> str:
        before = "AND other.place < mine.place AND (mine.lane = 0 OR other.lane = mine.lane)"
        how = before if state == "waiting" else unrelated
        return f"""EXISTS (SELECT 1 FROM {_LOCK} AS other WHERE other.resource = mine.resource
            AND other.state = '{state}' AND other.is_shared = {shared} {how})"""  # noqa: S608 - names are ours

    sql = f"""
        SELECT mine.plan_id, mine.resource FROM {_LOCK} AS mine
        WHERE {inside} AND mine.state = 'waiting' AND (
            {exists("held", "false")} OR {exists("waiting", "false")}
            OR (mine.is_shared = false AND ({exists("held", "true")} OR {exists("waiting", "true")}))
        )
    """  # noqa: S608 - names are ours
    blocked: dict[UUID, list[str]] = defaultdict(list)
    for plan_id, resource in execute(sql, [*parameters, *related, *related]):
        blocked[from_db_key(plan_id)].append(resource)
    return blocked


def unlock(plan_ids: Collection[UUID]) -> dict[str, bool]:
    """Unlock what these plans do not need any more: everything if they have stopped, otherwise what was asked for. A
    plan that was frozen leaves the line. Returns the resources, and whether each was held or waited for exclusively."""
    require_legal(LOCK_TRANSITIONS, [LockState.REQUESTED, LockState.WAITING, LockState.HELD], LockState.UNLOCKED)
    require_legal(LOCK_TRANSITIONS, [LockState.WAITING], LockState.REQUESTED)
    connection = ledger_connection()
    now = now_sql(connection)
    inside, parameters = is_any_of(connection, f"{_LOCK}.plan_id", [db_key(each, connection) for each in plan_ids])
    unlocked = f"""
        UPDATE {_LOCK} SET state = 'unlocked', unlocked_at = {now},
            reason = CASE WHEN {_LOCK}.reason = '' THEN 'the plan stopped' ELSE {_LOCK}.reason END
        FROM {_PLAN} AS plan WHERE plan.id = {_LOCK}.plan_id AND {inside} AND {_LOCK}.state <> 'unlocked'
            AND (plan.state = 'stopped' OR ({_LOCK}.is_unlock_requested AND {_LOCK}.state = 'held'))
        RETURNING {_LOCK}.resource, {_LOCK}.is_shared
    """  # noqa: S608 - names are ours
    left = f"""
        UPDATE {_LOCK} SET state = 'requested', place = NULL, lane = 0, queued_at = NULL
        FROM {_PLAN} AS plan WHERE plan.id = {_LOCK}.plan_id AND {inside} AND {_LOCK}.state = 'waiting'
            AND plan.is_frozen
        RETURNING {_LOCK}.resource, {_LOCK}.is_shared
    """  # noqa: S608 - names are ours
    freed: dict[str, bool] = {}
    for sql in (unlocked, left):
        for resource, is_shared in execute(sql, parameters):
            freed[resource] = freed.get(resource, False) or not is_shared
    return freed


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
    return [from_db_key(row[0]) for row in execute(sql, parameters)]
