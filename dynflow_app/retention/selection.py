"""Which plans are old enough: by what is asked for, by their actions, and by the setting ``KEEP_FOR``."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Q, QuerySet

from dynflow_app import clock
from dynflow_app.actions import registry
from dynflow_app.conf import settings
from dynflow_app.models import ExecutionPlan
from dynflow_app.states import PlanState


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What may go. Sub-plans go with their parents, so all of this is about plans without a parent."""

    older_than: timedelta | None = None
    """Takes the place of the setting ``KEEP_FOR``; for `actions`, also that of their ``keep_for``."""
    actions: tuple[str, ...] = ()
    """Names of entry actions; none for all."""
    results: tuple[str, ...] = ()
    """Values of `PlanResult`; none for all."""

    @property
    def is_whole(self) -> bool:
        """Whether no plan is left out for anything but its age."""
        return not self.actions and not self.results


@dataclass(frozen=True, slots=True)
class Rule:
    """Plans that stopped before a time: those of some actions, or those of all but some."""

    before: datetime
    actions: tuple[str, ...]
    is_all_but: bool

    def plans(self, selection: Selection) -> QuerySet[ExecutionPlan]:
        """The plans without a parent that this is about, in the order of their ends."""
        named = Q(action__in=self.actions)
        old = ExecutionPlan.objects.filter(
            ~named if self.is_all_but else named,
            state=PlanState.STOPPED,
            parent_step__isnull=True,
            ended_at__lt=self.before,
        )
        if selection.results:
            old = old.filter(result__in=selection.results)
        return old.order_by("ended_at", "id")


def rules(selection: Selection) -> list[Rule]:
    """What `selection` comes to, counted from now; at most one rule for each age. None if everything is kept."""
    kept = _kept_for()
    otherwise = selection.older_than if selection.older_than is not None else _setting()
    by_age: dict[timedelta | None, list[str]] = defaultdict(list)
    for name in selection.actions or kept:
        is_asked = bool(selection.actions) and selection.older_than is not None
        by_age[otherwise if is_asked else kept.get(name, otherwise)].append(name)
    found = [(age, tuple(sorted(names)), False) for age, names in by_age.items()]
    if not selection.actions:
        found.append((otherwise, tuple(sorted(kept)), True))
    limits = [(_before(age), names, is_all_but) for age, names, is_all_but in found]
    return [Rule(before, names, is_all_but) for before, names, is_all_but in limits if before is not None]


def _kept_for() -> dict[str, timedelta]:
    """Action to what it says itself."""
    classes = registry.all_classes()
    return {registry.action_name(each): each.keep_for for each in classes if each.keep_for is not None}


def _setting() -> timedelta | None:
    days: float | None = settings.KEEP_FOR
    try:
        return None if days is None else timedelta(days=days)
    except OverflowError:
        return timedelta.max


def _before(age: timedelta | None) -> datetime | None:
    """When a plan of this age stopped; None if there was no such time."""
    try:
        return None if age is None else clock.now() - age
    except OverflowError:
        return None
