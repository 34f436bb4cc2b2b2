"""Cleaning up: one short transaction for each batch. Whoever drives it may stop after any of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import Q

from dynflow_app import clock, probes
from dynflow_app.models import ExecutionPlan, Limit, Step
from dynflow_app.models.base import explained_schema_errors, ledger_alias
from dynflow_app.retention import families
from dynflow_app.retention.archive import Archive
from dynflow_app.retention.deleting import delete
from dynflow_app.retention.records import lines
from dynflow_app.retention.selection import Rule, Selection, rules
from dynflow_app.states import PlanState

BATCH = 500
MOST_BATCH = 10_000
STEPS_PER_BATCH = 10
"""A batch ends early when its plans have this many steps on average, so that no transaction gets long."""
UNUSED_LIMIT = timedelta(days=30)
"""Longer than any transaction: one that is planning may have read a limit, without a lock."""
Place = tuple[datetime, UUID]


@dataclass(slots=True)
class Cleaned:
    """What one batch did; or would do, in a dry run."""

    plans: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How many plans without a parent went, by entry action and result."""
    sub_plans: int = 0
    """How many plans went with their parents."""
    limits: int = 0
    """How many limits that nothing used."""


def clean_up(
    selection: Selection | None = None,
    *,
    archive: Archive | None = None,
    batch: int = BATCH,
    limit: int | None = None,
    dry_run: bool = False,
) -> Iterator[Cleaned]:
    """Delete stopped plans that are old enough, the oldest first; yields after each batch of about `batch` plans.

    `archive`, which is open, gets them before. `limit`: at most so many plans; sub-plans, which go with their parents,
    do not count. A plan stays if it, or a plan below it, moves, has hooks to call, is waited for by another plan, or is
    protected by a row of the project.

    Each batch is a transaction of its own, so not inside another. Raises `ArchiveError` and `SchemaOutdatedError`.
    """
    if not 1 <= batch <= MOST_BATCH:
        raise ValueError(f"batch={batch!r}: give a number from 1 to {MOST_BATCH:,}.")
    selection = selection or Selection()
    left = limit
    for rule in rules(selection):
        walk = _Walk(rule, selection, archive, batch, dry_run=dry_run)
        while (left is None or left > 0) and (cleaned := walk.step(left)) is not None:
            left = None if left is None else left - cleaned.plans.total()
            yield cleaned
    if selection.is_whole and not dry_run and limit is None:
        yield from _forget_limits(batch)


class _Walk:
    """Goes through the plans of one rule, the oldest first, and looks at each once."""

    def __init__(self, rule: Rule, selection: Selection, archive: Archive | None, batch: int, *, dry_run: bool) -> None:
        self._plans = rule.plans(selection)
        self._archive = archive
        self._batch = batch
        self._dry_run = dry_run
        self._place: Place | None = None
        """End and key of the last plan looked at."""
        self._emptied: UUID | None = None
        """A family too large for one transaction, whose sub-plans are being deleted."""

    def step(self, limit: int | None) -> Cleaned | None:
        """One transaction; None if no plan is left."""
        with explained_schema_errors(), transaction.atomic(using=ledger_alias(), durable=True):
            roots = self._next(self._batch if limit is None else min(self._batch, limit))
            if not roots:
                return None
            cleaned = self._clean(roots)
        if not self._dry_run:
            probes.reached(probes.Probe.PLANS_DELETED)
        return cleaned

    def _next(self, number: int) -> list[Place]:
        """The next plans, locked; those that others have locked are left out."""
        plans = self._plans
        if self._place is not None:
            ended_at, last = self._place
            plans = plans.filter(Q(ended_at__gt=ended_at) | Q(id__gt=last), ended_at__gte=ended_at)
        if not self._dry_run:
            plans = plans.select_for_update(skip_locked=True, of=("self",))
        return list(plans.values_list("ended_at", "id")[:number])

    def _clean(self, places: list[Place]) -> Cleaned:
        root_of = families.gather([root for _, root in places], self._batch)
        while root_of is None and len(places) > 1:
            places = places[: len(places) // 2]
            root_of = families.gather([root for _, root in places], self._batch)
        if root_of is not None:
            weights = families.weights(root_of)
            weight_of: Counter[UUID] = Counter()
            for plan, root in root_of.items():
                weight_of[root] += weights[plan]
            places = self._prefix(places, weight_of)
            first = places[0][1]
            if len(places) > 1 or weight_of[first] <= self._most_weight or root_of.keys() == {first}:
                self._place = places[-1]
                chosen = {root for _, root in places}
                return self._delete_families({plan: root for plan, root in root_of.items() if root in chosen})
        return self._empty(places[0])

    @property
    def _most_weight(self) -> int:
        return self._batch * STEPS_PER_BATCH

    def _prefix(self, places: list[Place], weight_of: Counter[UUID]) -> list[Place]:
        """The first ones, as many as are not too much for one transaction; at least one."""
        total = 0
        for n, (_, root) in enumerate(places):
            total += weight_of[root]
            if n and total > self._most_weight:
                return places[:n]
        return places

    def _delete_families(self, root_of: dict[UUID, UUID]) -> Cleaned:
        """Delete whole families, but those of which a plan has to stay."""
        plans = ExecutionPlan.objects.filter(id__in=root_of)
        free = self._lock(list(root_of))
        stays = set(families.staying(plans).values_list("id", flat=True)) | (root_of.keys() - free)
        staying_roots = {root_of[plan] for plan in stays}
        return self._delete([plan for plan, root in root_of.items() if root not in staying_roots])

    def _empty(self, place: Place) -> Cleaned:
        """Delete some plans of a family that is too large for one transaction: sub-plans first, the root at last."""
        root = place[1]
        if self._emptied != root:
            if families.staying(families.members(root)).exists():
                self._place = place
                return Cleaned()
            self._emptied = root
        if self._dry_run:
            self._place = place
            cleaned = self._counted([root])
            cleaned.sub_plans = families.members(root).count() - 1
            return cleaned
        found = families.leaves(root, self._batch)
        weights = families.weights(found)
        heavy = self._prefix([(clock.now(), plan) for plan in found], Counter(weights))
        chosen = [plan for _, plan in heavy]
        stays = set(families.staying(ExecutionPlan.objects.filter(id__in=chosen)).values_list("id", flat=True))
        going = [plan for plan in chosen if plan not in stays and plan in self._lock(chosen)]
        if root in chosen or not going:
            self._place = place
        return self._delete(going)

    def _lock(self, plan_ids: Sequence[UUID]) -> set[UUID]:
        """Those of these plans that nobody else has locked."""
        plans = ExecutionPlan.objects.filter(id__in=plan_ids).order_by("id")
        if not self._dry_run:
            plans = plans.select_for_update(skip_locked=True, of=("self",))
        return set(plans.values_list("id", flat=True))

    def _delete(self, plan_ids: list[UUID]) -> Cleaned:
        cleaned = self._counted(plan_ids)
        if plan_ids and not self._dry_run:
            if self._archive is not None:
                self._archive.append(lines(plan_ids))
                probes.reached(probes.Probe.PLANS_ARCHIVED)
            delete(plan_ids)
        return cleaned

    def _counted(self, plan_ids: Sequence[UUID]) -> Cleaned:
        rows = ExecutionPlan.objects.filter(id__in=plan_ids).values_list("action", "result", "parent_step_id")
        counted = Counter((action, result) for action, result, parent in rows if parent is None)
        return Cleaned(plans=counted, sub_plans=len(plan_ids) - counted.total())


def _forget_limits(batch: int) -> Iterator[Cleaned]:
    """Delete limits that no plan was made with for a long time, and that no live plan needs."""
    live = ExecutionPlan.objects.exclude(state=PlanState.STOPPED)
    used = Step.objects.filter(plan__in=live, limit_key__isnull=False).order_by().values("limit_key")
    unused = Limit.objects.filter(declared_at__lt=clock.now() - UNUSED_LIMIT).exclude(key__in=used).order_by("key")
    while True:
        with transaction.atomic(using=ledger_alias(), durable=True):
            keys = list(unused.select_for_update(skip_locked=True).values_list("key", flat=True)[:batch])
            deleted = Limit.objects.filter(key__in=keys).delete()[0]
        if not deleted:
            return
        yield Cleaned(limits=deleted)
