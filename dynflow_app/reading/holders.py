"""Who has a resource, who waits for it, and which plans were about it: for the pages of any model.

See also `dynflow_app.admin.locks` and `dynflow_app.api.locks`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db.models import Count, Exists, OuterRef, Q, Subquery
from django.db.models.functions import Coalesce

from dynflow_app.models import ExecutionPlan, ResourceLink, ResourceLock
from dynflow_app.models.execution_plan import ExecutionPlanQuerySet
from dynflow_app.models.resource_lock import ResourceLockQuerySet, resource_key
from dynflow_app.states import LockState


def locks_for(resource: object) -> ResourceLockQuerySet:
    """The locks of a model instance or text, each with its plan: those that are held, then those in line, the first
    one first. One query when it is read. Raises `PlanningError` for what is no resource."""
    return ResourceLock.objects.filter(resource=resource_key(resource)).in_line().select_related("plan")


def holders_of(resources: Iterable[object]) -> dict[str, list[ResourceLock]]:
    """The locks that are held on any of these, each with its plan, by `resource_key`; those that are free are left out.
    One query for all."""
    keys = [resource_key(resource) for resource in resources]
    held = ResourceLock.objects.filter(resource__in=keys, state=LockState.HELD).select_related("plan")
    found: defaultdict[str, list[ResourceLock]] = defaultdict(list)
    for lock in held.order_by("place"):
        found[lock.resource].append(lock)
    return dict(found)


def plans_for(resource: object) -> ExecutionPlanQuerySet:
    """Every plan that locks or locked it, or has a link to it, newest first."""
    key = resource_key(resource)
    about = [Exists(model.objects.filter(plan=OuterRef("pk"), resource=key)) for model in (ResourceLock, ResourceLink)]
    return ExecutionPlan.objects.filter(about[0] | about[1])


@dataclass(frozen=True, slots=True)
class Wait:
    """What one lock of a waiting plan waits for."""

    lock: ResourceLock
    ahead: int
    """How many plans are before it in line."""
    by: list[ResourceLock]
    """Some of the locks that keep it waiting, those that are held first, each with its plan."""


def waits_of(plan_id: UUID, most: int = 3) -> list[Wait]:
    """What a plan waits for: at most that many of its locks, and as many reasons for each. Two queries."""
    others = ResourceLock.objects.filter(resource=OuterRef("resource")).exclude(plan=OuterRef("plan"))
    before = others.filter(state=LockState.WAITING, place__lt=OuterRef("place"))
    # Two that are not both shared: the other one is not, or they differ.
    conflict = Q(is_shared=False) | ~Q(is_shared=OuterRef("is_shared"))
    is_held = Q(state=LockState.HELD)
    blocking = others.filter(conflict, is_held | Q(state=LockState.WAITING, place__lt=OuterRef("place")))
    counted = before.order_by().values("resource").annotate(n=Count("id")).values("n")
    mine = ResourceLock.objects.filter(plan_id=plan_id, state=LockState.WAITING).filter(Exists(blocking))
    rows: list[Any] = list(mine.annotate(ahead=Coalesce(Subquery(counted), 0)).order_by("id")[:most])
    found: dict[str, list[ResourceLock]] = {row.resource: [] for row in rows}
    by = {row.resource: row for row in rows}
    if rows:
        found_in = ResourceLock.objects.filter(resource__in=found).exclude(plan__steps__children=plan_id).in_line()
        for lock in found_in.select_related("plan")[:_MOST_READ]:
            row = by[lock.resource]
            is_before = lock.state == LockState.HELD or (lock.place or 0) < (row.place or 0)
            conflicts = not (lock.is_shared and row.is_shared)
            if is_before and conflicts and lock.plan_id != plan_id and len(found[lock.resource]) < most:
                found[lock.resource].append(lock)
    return [Wait(row, row.ahead, found[row.resource]) for row in rows]


_MOST_READ = 100
