"""What the page of one plan shows, gathered in a constant number of queries."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from django.utils.translation import gettext as _

from dynflow_app.actions.middleware import presented
from dynflow_app.admin import family, formats
from dynflow_app.admin.badges import Badge, plan_badge, step_badge
from dynflow_app.models import ExecutionPlan, Step
from dynflow_app.reading import console
from dynflow_app.reading.explaining import explain
from dynflow_app.reading.holders import waits_of
from dynflow_app.reading.progress import eta, progress_of
from dynflow_app.states import LockState, StepState


@dataclass(frozen=True, slots=True)
class Pages:
    """Where in the table of steps we are."""

    number: int
    total: int
    """Steps of the plan."""

    @property
    def last(self) -> int:
        """Number of the last page."""
        return max(1, -(-self.total // console.STEPS_PER_PAGE))

    @property
    def first_row(self) -> int:
        """Position of the first step shown, from 1."""
        return (self.number - 1) * console.STEPS_PER_PAGE + 1

    @property
    def last_row(self) -> int:
        """Position of the last step shown."""
        return min(self.number * console.STEPS_PER_PAGE, self.total)

    @property
    def previous(self) -> int | None:
        """Number of the page before."""
        return self.number - 1 if self.number > 1 else None

    @property
    def next(self) -> int | None:
        """Number of the page after."""
        return self.number + 1 if self.number < self.last else None


@dataclass(frozen=True, slots=True)
class StepRow:
    """One line of the table."""

    step: Step
    action: str
    action_class: str
    badge: Badge
    ready: str
    started: str
    ended: str
    duration: str
    workers: list[str]
    payloads: list[tuple[str, str]]
    attempts: list[dict[str, Any]] = field(default_factory=list)


def context(plan: ExecutionPlan, page: str) -> dict[str, Any]:
    """Variables of the template."""
    counts = console.counts_by_state([plan.pk])[plan.pk]
    pages = _pages(page, sum(counts.values()))
    failed = list(console.failed_steps(plan))
    share = progress_of([plan])[plan.pk]
    left = eta(plan, share)
    return {
        "title": formats.title(plan),
        "subtitle": None,
        "plan": plan,
        "badge": plan_badge(plan, counts),
        "progress": formats.progress(counts, share),
        "left": "" if left is None else formats.duration(left.total_seconds()),
        "reasons": [(reason, formats.moment(reason.since)) for reason in explain(plan)],
        "states": [(step_badge(state), n) for state, n in _in_order(counts)],
        "sentence": formats.sentence(plan.action),
        "created": formats.moment(plan.created_at),
        "started": formats.moment(plan.started_at),
        "ended": formats.moment(plan.ended_at),
        "duration": formats.between(plan.started_at, plan.ended_at),
        "plan_error": plan.error,
        "failed": failed,
        "more_failed": counts.get(StepState.ERROR, 0) - len(failed),
        "steps": _rows(plan, pages.number),
        "pages": pages,
        "output": _output(plan),
        "locks": _locks(plan),
        "links": console.links_of(plan),
        **family.context(plan),
        "entries": [(entry, formats.moment(entry.at)) for entry in console.history_of(plan)],
    }


def _pages(given: str, total: int) -> Pages:
    number = int(given) if given.isascii() and given.isdigit() and len(given) < 10 else 1
    return Pages(number=min(max(number, 1), Pages(1, total).last), total=total)


def _in_order(counts: dict[str, int]) -> list[tuple[str, int]]:
    order = list(StepState.values)
    return sorted(counts.items(), key=lambda item: order.index(item[0]) if item[0] in order else len(order))


def _rows(plan: ExecutionPlan, page: int) -> list[StepRow]:
    steps = list(console.steps_of(plan, page))
    attempts = console.attempts_of(steps)
    return [_row(step, attempts.get(step.pk, [])) for step in steps]


def _row(step: Any, attempts: list[dict[str, Any]]) -> StepRow:  # a step with annotations
    workers = [attempt["worker"] for attempt in attempts]
    workers.append(step.worker)
    for attempt in attempts:
        attempt["duration"] = formats.between(attempt["started_at"], attempt["ended_at"])
        attempt["started"] = formats.moment(attempt["started_at"])
    return StepRow(
        step=step,
        action=step.action_name,
        action_class=formats.class_name(step.action_name),
        badge=step_badge(step.state),
        ready=formats.moment(step.ready_at),
        started=formats.moment(step.started_at),
        ended=formats.moment(step.ended_at),
        duration=formats.between(step.started_at, step.ended_at),
        workers=list(dict.fromkeys(filter(None, workers))),
        payloads=[
            (_("Input"), _json(_presented(step, step.input_json), step.input_size)),
            (_("Output"), _json(_presented(step, step.output_json), step.output_size)),
            (_("Error"), _json(step.failure_json, step.failure_size)),
        ],
        attempts=attempts,
    )


def _presented(step: Any, value: Any) -> Any:  # a step with annotations
    """As middleware wants it to be seen."""
    return presented(step.action_name, value) if value else value


def _json(value: Any, size: int | None) -> str:
    if size is not None and size > console.SHOWN_JSON:
        return _("Too large to show here: %s.") % formats.size(size)
    return formats.pretty(value) if value else ""


def _locks(plan: ExecutionPlan) -> list[dict[str, Any]]:
    """Each with those who keep the plan from it."""
    found = console.locks_of(plan)
    is_waiting = any(lock.state == LockState.WAITING for lock in found)
    waits = {wait.lock.pk: wait for wait in waits_of(plan.pk, most=console.SHOWN_WAITS)} if is_waiting else {}
    return [
        {
            "lock": lock,
            "since": formats.moment(lock.held_at or lock.queued_at or lock.created_at),
            "released": formats.moment(lock.unlocked_at),
            "behind": waits[lock.pk].by if lock.pk in waits else [],
            "waiters": lock.waiters if lock.state == LockState.HELD else None,
            "ahead": waits[lock.pk].ahead if lock.pk in waits else 0,
        }
        for lock in found
    ]


def _output(plan: ExecutionPlan) -> list[dict[str, Any]]:
    """Consecutive chunks of one action as one block."""

    def source(chunk: dict[str, Any]) -> tuple[int, str, int]:
        return chunk["action__number"], chunk["action__name"], chunk["attempt"]

    return [
        {
            "number": number,
            "action": formats.class_name(name),
            "attempt": attempt,
            "text": "".join(chunk["text"] for chunk in chunks),
        }
        for (number, name, attempt), chunks in groupby(console.output_of(plan), key=source)
    ]
