"""Cleaning up: one short transaction for each batch. Whoever drives it may stop after any of them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Q

from dynflow_app import clock, probes
from dynflow_app.ledger.families import members
from dynflow_app.models import ExecutionPlan, Limit, Step
from dynflow_app.models.base import explained_schema_errors, ledger_alias
from dynflow_app.retention import families
from dynflow_app.retention.archive import Archive
from dynflow_app.retention.deleting import delete
from dynflow_app.retention.records import lines
from dynflow_app.retention.selection import Rule, Selection, rules
from dynflow_app.states import PlanState

BATCH = 200
MOST_BATCH = 10_000
REST = 1.0
"""By default it works half of the time, and leaves the other half to running plans."""
LONGEST_REST = 5.0
"""Seconds."""
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
    rest: float = REST,
    dry_run: bool = False,
) -> Iterator[Cleaned]:
    """Delete stopped plans that are old enough, the oldest first; yields after each batch of about `batch` plans.

    `archive`, which is open, gets them before. `limit`: at most so many plans; sub-plans, which go with their parents,
    do not count. `rest`: after each batch it sleeps so many times as long as the batch took. A plan stays if it, or a
    plan below it, moves, has hooks to call or locks to release, is waited for by another plan, or is protected by a
    row of the project.

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
            if not dry_run:
                time.sleep(min(LONGEST_REST, rest * walk.took))
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
        self.took = 0.0
        """Seconds that the last batch took."""
        self._place: Place | None = None
        """End and key of the last plan looked at."""
        self._emptied: UUID | None = None
        """A family too large for one transaction, whose sub-plans are being deleted."""

    def step(self, limit: int | None) -> Cleaned | None:
        """One transaction; None if no plan is left."""
        began = clock.monotonic()
        with explained_schema_errors(), transaction.atomic(using=ledger_alias(), durable=True):
            roots = self._next(self._batch if limit is None else min(self._batch, limit))
            if not roots:
                return None
            cleaned = self._clean(roots)
        if not self._dry_run:
            probes.reached(probes.Probe.PLANS_DELETED)
        self.took = clock.monotonic() - began
        return cleaned

    def _next(self, number: int) -> list[Place]:
        """The next plans, locked; those that others have locked are left out."""
        plans = self._plans
        if self._place is not None:
            ended_at, last = self._place
            plans = plans.filter(Q(ended_at__gt=ended_at) | Q(id__gt=last), ended_at__gte=ended_at)
        if not self._dry_run:
            plans = plans.select_for_update(skip_locked=True, of=("self",))
        rows: Iterable[Any] = plans.values_list("ended_at", "id")[:number]
        return list(rows)

    def _clean(self, places: list[Place]) -> Cleaned:
        root_of = families.gather([root for _, root in places], self._batch)
        while root_of is None and len(places) > 1:
            places = places[: len(places) // 2]
            root_of = families.gather([root for _, root in places], self._batch)
        if root_of is None:
            return self._empty(places[0])
        weight_of: Counter[UUID] = Counter()
        for plan, weight in families.weights(root_of).items():
            weight_of[root_of[plan]] += weight
        places = places[: self._affordable([weight_of[root] for _, root in places])]
        chosen = {root for _, root in places}
        root_of = {plan: root for plan, root in root_of.items() if root in chosen}
        if len(chosen) == 1 < len(root_of) and weight_of[places[0][1]] > self._most_weight:
            return self._empty(places[0])
        self._place = places[-1]
        return self._delete_families(root_of)

    def _delete_families(self, root_of: dict[UUID, UUID]) -> Cleaned:
        """Delete whole families, but those of which a plan has to stay."""
        going = self._going(list(root_of))
        torn = {root for plan, root in root_of.items() if plan not in going}
        return self._delete([plan for plan, root in root_of.items() if root not in torn])

    def _empty(self, place: Place) -> Cleaned:
        """Delete some plans of a family that is too large for one transaction: sub-plans first, the root at last."""
        root = place[1]
        if self._emptied != root:
            if families.staying(members(root)).exists():
                self._place = place
                return Cleaned()
            self._emptied = root
        if self._dry_run:
            self._place = place
            cleaned = self._counted([root])
            cleaned.sub_plans = members(root).count() - 1
            return cleaned
        chosen = families.leaves(root, self._batch)
        weights = families.weights(chosen)
        chosen = chosen[: self._affordable([weights[plan] for plan in chosen])]
        going = self._going(chosen)
        if root in chosen or not going:
            self._place = place
        return self._delete([plan for plan in chosen if plan in going])

    @property
    def _most_weight(self) -> int:
        return self._batch * STEPS_PER_BATCH

    def _affordable(self, weights: Sequence[int]) -> int:
        """How many, from the first on, are not too much for one transaction; at least one."""
        total = 0
        for n, weight in enumerate(weights):
            total += weight
            if n and total > self._most_weight:
                return n
        return len(weights)

    def _going(self, plan_ids: Sequence[UUID]) -> set[UUID]:
        """Those of these plans that may go, locked; those that others have locked are left out."""
        plans = ExecutionPlan.objects.filter(id__in=plan_ids)
        locked = plans if self._dry_run else plans.select_for_update(skip_locked=True, of=("self",))
        found = set(locked.order_by("id").values_list("id", flat=True))
        return found - set(families.staying(plans).values_list("id", flat=True))  # what is locked does not change

    def _delete(self, plan_ids: list[UUID]) -> Cleaned:
        cleaned = self._counted(plan_ids)
        if plan_ids and not self._dry_run:
            if self._archive is not None:
                self._archive.append(lines(plan_ids))
                probes.reached(probes.Probe.PLANS_ARCHIVED)
            delete(plan_ids)
        return cleaned

    def _counted(self, plan_ids: Sequence[UUID]) -> Cleaned:
        plans = ExecutionPlan.objects.filter(id__in=plan_ids)
        rows: Iterable[Any] = plans.values_list("action", "result", "parent_step")
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
