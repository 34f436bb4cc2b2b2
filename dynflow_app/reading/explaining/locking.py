"""Reasons that lie with locks: other plans have what the plan needs, or came before it."""

from __future__ import annotations

from collections.abc import Iterator

from dynflow_app.models import ResourceLock
from dynflow_app.reading.explaining.facts import Facts
from dynflow_app.reading.explaining.findings import Finding, FindingCode, span
from dynflow_app.reading.holders import Wait, waits_of
from dynflow_app.states import LockState, PlanState


def locks(facts: Facts) -> Iterator[Finding]:
    """What a plan that may not start yet waits for, and who has it."""
    if not (facts.has_locks and facts.is_waiting and facts.state == PlanState.PLANNED):
        return
    for wait in waits_of(facts.plan_id):
        who = " and ".join(_has(lock, facts) for lock in wait.by) or "other plans want it too"
        holder = next((lock.plan_id for lock in wait.by if lock.state == LockState.HELD), None)
        yield Finding(
            code=FindingCode.LOCK_WAITS,
            message=f"The plan waits for {wait.lock.name}: {who}. {_place(wait)}",
            remedy="Wait until that has stopped, or end it (control.cancel)."
            + (
                " If it does not need the resource any more, take it away: control.unlock(plan, reason=...), "
                f"where plan is {holder}."
                if holder
                else ""
            ),
            since=wait.lock.queued_at,
        )


def _has(lock: ResourceLock, facts: Facts) -> str:
    name = f"plan {lock.plan_id} ({lock.plan.label or lock.plan.action.rpartition('.')[2]}, {lock.plan.state})"
    how = "shared" if lock.is_shared else "exclusively"
    if lock.state == LockState.HELD and lock.held_at is not None:
        return f"{name} has held it {how} for {span(facts.now - lock.held_at)}"
    return f"{name} wants it {how}, and came before"


def _place(wait: Wait) -> str:
    if not wait.ahead:
        return "It is the first in line."
    return f"{wait.ahead} {'plan is' if wait.ahead == 1 else 'plans are'} before it in line."
