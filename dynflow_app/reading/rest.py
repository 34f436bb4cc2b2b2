"""What the API reads; each function is one query or a part of one."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Count, F, Max, OuterRef, QuerySet, Subquery, Sum, Value
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Coalesce, Left

from dynflow_app.models import Attempt, ExecutionPlan, OutputChunk, ResourceLock, Step
from dynflow_app.reading.attempts import first_success
from dynflow_app.reading.progress import SUMS
from dynflow_app.states import StepState

SHOWN_MESSAGE = 2000
SHOWN_ATTEMPTS = 100
SHOWN_LOCKS = 100
SHOWN_OUTPUT = 64 * 1024


@dataclass(slots=True)
class Counts:
    """Steps of a plan by state. With the plan's revision it tells whether anything has changed.

    A claim does not raise the revision, but the sum of all attempts, which never falls; and what leaves the state
    *running* without raising the revision changes the counts. So the three together never show the same twice. What
    running steps say of their progress changes the sums only.
    """

    by_state: dict[str, int] = field(default_factory=dict)
    attempts: int = 0
    done_weight: float = 0.0
    weight_sum: float = 0.0

    def add(
        self, state: str | None, steps: int, attempts: int | None, done: float | None = 0, whole: float | None = 0
    ) -> None:
        """Count steps in; no state means no steps."""
        if state is not None:
            self.by_state[state] = steps
            self.attempts += attempts or 0
            self.done_weight += done or 0
            self.weight_sum += whole or 0

    def version(self, revision: int) -> str:
        """What changes whenever a plan of this `revision`, or a step of it, does."""
        return f"{revision}-{self.attempts}-{digest([*sorted(self.by_state.items()), round(self.done_weight, 6)])}"


@dataclass(frozen=True, slots=True)
class PlanHead:
    """What a list of steps has to know of its plan."""

    id: UUID
    state: str
    created_at: datetime
    version: str


def digest(value: Any) -> str:
    """A few characters that differ if `value` does."""
    return hashlib.sha256(repr(value).encode()).hexdigest()[:16]


def plans() -> QuerySet[ExecutionPlan]:
    """Plans with class and message of what went wrong: in planning, or in their first failed step."""
    failed = Step.objects.filter(plan=OuterRef("pk"), state=StepState.ERROR).order_by("number")
    return ExecutionPlan.objects.defer("error").annotate(
        parent_id=F("parent_step__plan_id"),
        failed_step=Subquery(failed.values("number")[:1]),
        error_class=Coalesce(KeyTextTransform("class", "error"), _of(failed, "class")),
        error_message=Left(Coalesce(KeyTextTransform("message", "error"), _of(failed, "message")), SHOWN_MESSAGE),
    )


def _of(steps: QuerySet[Step], key: str) -> Subquery:
    return Subquery(steps.annotate(text=KeyTextTransform(key, "error")).values("text")[:1])


def counts_of(plan_ids: Collection[UUID]) -> dict[UUID, Counts]:
    """Steps of these plans by state, with their weights."""
    found: dict[UUID, Counts] = defaultdict(Counts)
    rows = Step.objects.filter(plan_id__in=plan_ids).order_by().values_list("plan_id", "state")
    counted: Iterable[Any] = rows.annotate(n=Count("id"), started=Sum("attempt"), **SUMS)
    for plan_id, state, *numbers in counted:
        found[plan_id].add(state, *numbers)
    return found


def head_of(plan_id: UUID) -> PlanHead | None:
    """A plan and the version of its steps."""
    rows = list(
        ExecutionPlan.objects.filter(pk=plan_id)
        .order_by()
        .values("state", "created_at", "revision", "steps__state")
        .annotate(n=Count("steps"), attempts=Sum("steps__attempt"))
    )
    if not rows:
        return None
    counts = Counts()
    for row in rows:
        counts.add(row["steps__state"], row["n"], row["attempts"])
    first = rows[0]
    return PlanHead(plan_id, first["state"], first["created_at"], counts.version(first["revision"]))


def steps() -> QuerySet[Step]:
    """Steps with class and message of their error, and without anything long."""
    return Step.objects.defer("error").annotate(
        action_name=F("action__name"),
        error_class=KeyTextTransform("class", "error"),
        error_message=Left(KeyTextTransform("message", "error"), SHOWN_MESSAGE),
    )


def locks_of(plan: ExecutionPlan) -> list[ResourceLock]:
    """What a plan locks or locked, in the order of planning; no query if it never asked for anything."""
    return list(ResourceLock.objects.filter(plan=plan).order_by("id")[:SHOWN_LOCKS]) if plan.has_locks else []


def step(plan_id: UUID, number: int) -> Step | None:
    """One step with its action, its plan, and the newest of its output chunks."""
    chunks = OutputChunk.objects.filter(action=OuterRef("action")).order_by()
    newest = chunks.values("action").annotate(newest=Max("id")).values("newest")
    found = steps().filter(plan_id=plan_id, number=number).select_related("action", "plan")
    return found.annotate(newest_chunk=Coalesce(Subquery(newest), Value(0))).first()


def attempts_of(step: Step) -> list[dict[str, Any]]:
    """The latest attempts of a step, oldest first."""
    if step.is_first_success:
        return [first_success(step)]
    rows = (
        Attempt.objects.filter(step=step)
        .annotate(
            error_class=KeyTextTransform("class", "error"),
            error_message=Left(KeyTextTransform("message", "error"), SHOWN_MESSAGE),
        )
        .order_by("-number")
        .values("number", "ended_as", "worker", "started_at", "ended_at", "error_class", "error_message")
    )
    return [dict(row) for row in rows[:SHOWN_ATTEMPTS]][::-1]


def chunks_of(step: Step) -> list[dict[str, Any]]:
    """The newest output of a step's action, oldest first: chunks until `SHOWN_OUTPUT` characters are reached."""
    return OutputChunk.objects.filter(action=step.action_id).tail(SHOWN_OUTPUT, "attempt", "created_at")
