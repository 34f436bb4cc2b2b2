"""Families: a plan with its sub-plans, their sub-plans, and so on. They go together, or they stay."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from uuid import UUID

from django.db.models import CASCADE, DO_NOTHING, SET_NULL, Count, Exists, OuterRef, Q, QuerySet

from dynflow_app.models import ExecutionPlan, Prerequisite, ResourceLock, Step
from dynflow_app.retention.tables import references
from dynflow_app.states import ACTIVE_STEP_STATES, LIVE_PLAN_STATES, Phase, PlanState


def gather(roots: Sequence[UUID], most: int) -> dict[UUID, UUID] | None:
    """Every plan of these families to its root; None if there are more than `most`. One query per generation."""
    root_of = {root: root for root in roots}
    parents = list(roots)
    while parents:
        children = children_of(parents).values_list("id", "parent_step__plan_id")[: most + 1]
        born = {child: root_of[parent] for child, parent in children}
        root_of.update(born)
        if len(root_of) > most:
            return None
        parents = list(born)
    return root_of


def leaves(root: UUID, most: int) -> list[UUID]:
    """Up to `most` plans of a family that have no sub-plans, all of one generation; at the end, the root itself."""
    found = [root]
    while below := list(children_of(found).values_list("id", flat=True)[:most]):
        found = below
    return found


def children_of(plan_ids: Collection[UUID]) -> QuerySet[ExecutionPlan]:
    """Sub-plans of these."""
    return ExecutionPlan.objects.filter(parent_step__plan__in=plan_ids).order_by()


def weights(plan_ids: Collection[UUID]) -> dict[UUID, int]:
    """How much there is of each plan: one, and one for each step."""
    counted = Step.objects.filter(plan__in=plan_ids).order_by().values_list("plan_id").annotate(n=Count("id"))
    found = dict.fromkeys(plan_ids, 1)
    for plan_id, number in counted:
        found[plan_id] += number
    return found


def staying(plans: QuerySet[ExecutionPlan]) -> QuerySet[ExecutionPlan]:
    """Those of `plans` that must not go: they move, or have hooks to call or locks to release, or live plans wait for
    them, or rows of the project protect them."""
    awaiting = Prerequisite.objects.filter(after=OuterRef("pk"), plan__state__in=LIVE_PLAN_STATES)
    hooks = Step.objects.filter(plan=OuterRef("pk"), phase=Phase.HOOK, state__in=ACTIVE_STEP_STATES)
    locks = ResourceLock.objects.live().filter(plan=OuterRef("pk"))
    condition = ~Q(state=PlanState.STOPPED) | Q(Exists(awaiting)) | Q(Exists(hooks)) | Q(Exists(locks))
    for reference in references():
        if reference.on_delete not in (CASCADE, SET_NULL, DO_NOTHING):
            condition |= Q(Exists(reference.rows.filter(**{reference.path: OuterRef("pk")})))
    return plans.filter(condition)
