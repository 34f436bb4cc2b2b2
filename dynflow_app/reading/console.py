"""What the console reads. Each function is one query, and each answer is bounded whatever is in the tables."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from operator import itemgetter
from typing import Any
from uuid import UUID

from django.db.models import Case, Count, F, JSONField, OuterRef, QuerySet, Subquery, TextField, When
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Cast, Left, Length

from dynflow_app.models import (
    Attempt,
    ExecutionPlan,
    HistoryEntry,
    OutputChunk,
    ResourceLink,
    ResourceLock,
    Step,
)
from dynflow_app.reading.attempts import first_success
from dynflow_app.states import LockState, StepState

STEPS_PER_PAGE = 100
SHOWN_ERRORS = 20
SHOWN_ATTEMPTS = 500
SHOWN_HISTORY = 100
SHOWN_LOCKS = 100
SHOWN_WAITS = 10
SHOWN_OUTPUT = 64 * 1024
"""Characters of output, the newest."""
SHOWN_JSON = 16 * 1024
"""Larger payloads are not loaded."""


def counts_by_state(plan_ids: Collection[UUID]) -> dict[UUID, dict[str, int]]:
    """How many steps of each plan are in which state."""
    found: dict[UUID, dict[str, int]] = defaultdict(dict)
    rows = Step.objects.filter(plan_id__in=plan_ids).order_by().values_list("plan_id", "state").annotate(n=Count("id"))
    for plan_id, state, n in rows:
        found[plan_id][state] = n
    return found


def steps_of(plan: ExecutionPlan, page: int) -> QuerySet[Step]:
    """One page of a plan's steps, with what is shown of their actions; large payloads are only measured."""
    first = (page - 1) * STEPS_PER_PAGE
    return (
        Step.objects.filter(plan=plan)
        .defer("error")
        .annotate(
            action_name=F("action__name"),
            **_payload("input", "action__input"),
            **_payload("output", "action__output"),
            **_payload("failure", "error"),
        )
        .order_by("number")[first : first + STEPS_PER_PAGE]
    )


def failed_steps(plan: ExecutionPlan) -> QuerySet[Step]:
    """The first steps in error."""
    failed = Step.objects.filter(plan=plan, state=StepState.ERROR)
    return failed.annotate(action_name=F("action__name")).order_by("number")[:SHOWN_ERRORS]


def attempts_of(steps: Collection[Step]) -> dict[int, list[dict[str, Any]]]:
    """The latest attempts of these steps, by step, oldest first."""
    rows = (
        Attempt.objects.filter(step_id__in=[step.pk for step in steps])
        .annotate(
            error_class=KeyTextTransform("class", "error"),
            message=Left(KeyTextTransform("message", "error"), 500),
        )
        .order_by("-id")
        .values("step_id", "number", "ended_as", "worker", "started_at", "ended_at", "error_class", "message")
    )
    found: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in sorted(rows[:SHOWN_ATTEMPTS], key=itemgetter("number")):
        found[row["step_id"]].append(dict(row))
    for step in steps:
        if step.is_first_success:
            found[step.pk].append(first_success(step))
    return found


def output_of(plan: ExecutionPlan) -> list[dict[str, Any]]:
    """The newest output of a plan, oldest first: chunks until `SHOWN_OUTPUT` characters are reached."""
    return OutputChunk.objects.filter(action__plan=plan).tail(
        SHOWN_OUTPUT, "action__number", "action__name", "attempt", "created_at"
    )


def locks_of(plan: ExecutionPlan) -> list[Any]:
    """What a plan locks or locked, in the order of planning, each with ``waiters``: how many plans are in line for
    it."""
    if not plan.has_locks:
        return []
    line = ResourceLock.objects.filter(resource=OuterRef("resource"), state=LockState.WAITING).order_by()
    counted = Subquery(line.values("resource").annotate(n=Count("id")).values("n"))
    return list(ResourceLock.objects.filter(plan=plan).annotate(waiters=counted).order_by("id")[:SHOWN_LOCKS])


def links_of(plan: ExecutionPlan) -> list[ResourceLink]:
    """What a plan is about."""
    return list(ResourceLink.objects.filter(plan=plan).order_by("id")[:SHOWN_LOCKS])


def history_of(plan: ExecutionPlan) -> QuerySet[HistoryEntry]:
    """The latest entries, newest first."""
    return HistoryEntry.objects.filter(plan=plan).order_by("-id")[:SHOWN_HISTORY]


def _payload(name: str, source: str) -> dict[str, Any]:
    length = Length(Cast(source, TextField()))
    small = When(**{f"{name}_size__lte": SHOWN_JSON}, then=F(source))
    return {f"{name}_size": length, f"{name}_json": Case(small, output_field=JSONField())}
