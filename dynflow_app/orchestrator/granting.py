"""Locks: granted to plans that are to start, all locks of a plan at once.

Only the leader does this, in transactions in which it checked its term, so no two of them decide at once. A plan gets
its locks if no other plan holds, or waits with a smaller place for, something that conflicts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from uuid import UUID

from django.db.models import F

from dynflow_app.ledger import lines
from dynflow_app.ledger.lines import FRONT
from dynflow_app.messages import EnvelopeKind
from dynflow_app.models import Envelope, ExecutionPlan, ResourceLock, Step
from dynflow_app.models.resource_lock import shown
from dynflow_app.states import LockState, MadeAs, OnConflict, PlanResult


@dataclass(slots=True)
class Granted:
    """What became of plans that are to start."""

    may_start: set[UUID] = field(default_factory=set)
    waits: set[UUID] = field(default_factory=set)
    refused: dict[UUID, tuple[PlanResult, str]] = field(default_factory=dict)
    """Those that will not start, how they end, and why."""


@dataclass(frozen=True, slots=True)
class _Claim:
    """A lock of a plan that is to start."""

    plan_id: UUID
    resource: str
    is_shared: bool
    state: str
    on_conflict: str
    parent_step_id: int | None
    made_as: str


def grant(plan_ids: Collection[UUID]) -> Granted:
    """Give these locked plans, which are to start, what they ask for, or a place in line. About six statements."""
    fields = ("plan_id", "resource", "is_shared", "state", "on_conflict", "plan__parent_step_id", "plan__made_as")
    rows = ResourceLock.objects.filter(plan_id__in=plan_ids).live().order_by("id").values_list(*fields)
    claims = [_Claim(*row) for row in rows]
    pairs = ancestors({claim.plan_id: claim.parent_step_id for claim in claims if claim.parent_step_id})
    granted = Granted()
    passing = _passing(pairs, claims, granted) if pairs else set()
    _enter(claims, passing)
    blocked = lines.blocked_by(plan_ids, pairs) if claims else {}
    if passing:
        _settle_among(claims, passing, pairs, blocked, granted)
    _refuse(claims, blocked, granted)
    granted.waits = blocked.keys() - granted.refused.keys()
    granted.may_start = set(plan_ids) - granted.waits - granted.refused.keys()
    if claims:
        _hold(granted)
    return granted


def ancestors(parents: dict[UUID, int]) -> set[tuple[UUID, UUID]]:
    """Pairs of a plan and one that it is a sub-plan of, at any depth. One statement for each level."""
    pairs: set[tuple[UUID, UUID]] = set()
    level: dict[UUID, int | None] = {**parents}
    while level:
        steps = Step.objects.filter(id__in=set(filter(None, level.values()))).values_list(
            "id", "plan_id", "plan__parent_step_id"
        )
        above = {step: (plan_id, parent) for step, plan_id, parent in steps}
        found = {plan_id: above[step] for plan_id, step in level.items() if step in above}
        pairs |= {(plan_id, ancestor) for plan_id, (ancestor, _parent) in found.items()}
        level = {plan_id: parent for plan_id, (_ancestor, parent) in found.items()}
    return pairs


def _passing(pairs: set[tuple[UUID, UUID]], claims: Iterable[_Claim], granted: Granted) -> set[UUID]:
    """Plans that pass the line, since an ancestor holds something: those in line may wait for that ancestor, and it
    waits for them. Refuses those that ask for more of a resource than an ancestor has."""
    held = ResourceLock.objects.filter(plan_id__in={ancestor for _, ancestor in pairs}, state=LockState.HELD)
    holders: defaultdict[UUID, dict[str, bool]] = defaultdict(dict)
    for plan_id, resource, is_shared in held.values_list("plan_id", "resource", "is_shared"):
        holders[plan_id][resource] = is_shared
    above: defaultdict[UUID, list[UUID]] = defaultdict(list)
    for plan_id, ancestor in pairs:
        if ancestor in holders:
            above[plan_id].append(ancestor)
    for claim in claims:
        shared = [each for each in above.get(claim.plan_id, ()) if holders[each].get(claim.resource, False)]
        if shared and not claim.is_shared:
            why = (
                f"It wants {shown(claim.resource)} for itself, which plan {shared[0]}, whose sub-plan it is, holds "
                "shared; nobody could ever give it that. Lock it exclusively there, or shared here."
            )
            granted.refused[claim.plan_id] = (PlanResult.ERROR, why)
    return set(above)


def _enter(claims: Iterable[_Claim], passing: Collection[UUID]) -> None:
    """Give those who are not in line yet the next places, in the order of planning. Before all others come those who
    pass, and then plans that undo something, before anybody builds on it."""
    fresh: dict[UUID, _Claim] = {}
    for claim in claims:
        if claim.state == LockState.REQUESTED:
            fresh.setdefault(claim.plan_id, claim)
    if not fresh:
        return
    rows = []
    for place, (plan_id, claim) in enumerate(fresh.items(), start=lines.last_turn() + 1):
        passes = plan_id in passing
        ahead = 2 * FRONT if passes else FRONT if claim.made_as == MadeAs.REVERT else 0
        rows.append((plan_id, place - ahead, (claim.parent_step_id or 0) if passes else 0))
    lines.enter(rows)


def _settle_among(
    claims: Iterable[_Claim],
    passing: Collection[UUID],
    pairs: Collection[tuple[UUID, UUID]],
    blocked: dict[UUID, list[str]],
    granted: Granted,
) -> None:
    """Those who pass do not see others in line, some of whom get their locks right now: these were first."""
    wanted: defaultdict[UUID, list[_Claim]] = defaultdict(list)
    for claim in claims:
        if claim.plan_id not in blocked and claim.plan_id not in granted.refused:
            wanted[claim.plan_id].append(claim)
    taken: defaultdict[str, list[_Claim]] = defaultdict(list)
    for plan_id in sorted(wanted, key=lambda plan_id: plan_id in passing):
        for claim in wanted[plan_id]:
            for other in taken[claim.resource]:
                is_kin = (plan_id, other.plan_id) in pairs
                if plan_id in passing and not is_kin and not (claim.is_shared and other.is_shared):
                    blocked.setdefault(plan_id, []).append(claim.resource)
        if plan_id not in blocked:
            for claim in wanted[plan_id]:
                taken[claim.resource].append(claim)


def _refuse(claims: Iterable[_Claim], blocked: dict[UUID, list[str]], granted: Granted) -> None:
    """Decide about those that do not want to wait."""
    impatient: dict[UUID, _Claim] = {}
    for claim in claims:
        if claim.on_conflict != OnConflict.WAIT and claim.resource in blocked.get(claim.plan_id, ()):
            known = impatient.get(claim.plan_id)
            impatient[claim.plan_id] = known if known and known.on_conflict == OnConflict.FAIL else claim
    if not impatient:
        return
    resources = {claim.resource for claim in impatient.values()}
    first: dict[str, tuple[UUID, str]] = {}
    for lock in ResourceLock.objects.filter(resource__in=resources).exclude(plan_id__in=impatient).in_line():
        first.setdefault(lock.resource, (lock.plan_id, lock.state))
    for plan_id, claim in impatient.items():
        by, state = first.get(claim.resource, (None, ""))
        who = "Another plan" if by is None else f"Plan {by}"
        does = "waits for" if state == LockState.WAITING else "holds"
        result = PlanResult.ERROR if claim.on_conflict == OnConflict.FAIL else PlanResult.CANCELLED
        granted.refused.setdefault(
            plan_id, (result, f"{who} {does} {shown(claim.resource)}; trigger it again when that has stopped.")
        )


def _hold(granted: Granted) -> None:
    waiting = ResourceLock.objects.filter(plan_id__in=granted.may_start)
    waiting.hold()
    plans = ExecutionPlan.objects.filter(id__in=granted.waits, is_waiting=False)
    times = dict(plans.values_list("id", "start_before")) if granted.waits else {}
    if times:
        ExecutionPlan.objects.filter(id__in=times).update(is_waiting=True, revision=F("revision") + 1)
        Envelope.objects.bulk_create(  # to look whether it is too late
            Envelope(kind=EnvelopeKind.PLANNED.value, plan_id=plan_id, due_at=before)
            for plan_id, before in times.items()
            if before is not None
        )
