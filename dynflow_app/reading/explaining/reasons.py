"""From facts to findings, in the order in which they matter."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from dynflow_app.models import Limit
from dynflow_app.reading.explaining.facts import MOST_COUNTED, Facts
from dynflow_app.reading.explaining.findings import Finding, FindingCode, counted, due, error_text, exactly, name, span
from dynflow_app.reading.explaining.locking import locks
from dynflow_app.reading.explaining.processes import LATE, queues, services
from dynflow_app.states import Alarm, PlanState, StepState, StopRequest


def reasons(facts: Facts) -> Iterator[Finding]:
    """Why this plan does not move, the reason first."""
    if facts.state == PlanState.STOPPED:
        return
    if facts.state == PlanState.PAUSED:
        yield from _paused(facts)
        yield from queues(facts)
        yield from _skipping(facts)
        return
    yield from _row_locked(facts)
    later = list(_not_yet(facts))
    if later:
        yield from later
        return
    if not facts.is_moving:
        yield from services(facts)
    yield from queues(facts)
    yield from locks(facts)
    yield from _throttled(facts)
    yield from _running(facts)
    yield from _suspended(facts)
    yield from _skipping(facts)
    yield from _undecided(facts)


# --- the plan ----------------------------------------------------------------------------------------------------


def _row_locked(facts: Facts) -> Iterator[Finding]:
    blocker = facts.blocker
    if blocker is not None:
        pid, application, age = blocker["pid"], blocker["application"], timedelta(seconds=blocker["seconds"])
        name = f", {application!r}" if application else ""
        yield Finding(
            code=FindingCode.ROW_LOCKED,
            message=f"A database session (pid {pid}{name}) has locked the row of this plan, in a transaction "
            f"that began {span(age)} ago; nobody else can change the plan.",
            remedy=f"Let that transaction end, or end the session: SELECT pg_terminate_backend({pid}). Then the plan "
            "goes on by itself.",
            since=facts.now - age,
        )


def _not_yet(facts: Facts) -> Iterator[Finding]:
    if facts.state not in (PlanState.SCHEDULED, PlanState.PLANNED):
        return
    if facts.is_frozen:
        yield Finding(
            code=FindingCode.FROZEN,
            message="The plan is frozen, so it does not start.",
            remedy="Let it start: control.unfreeze(plan).",
        )
    if facts.start_at is not None and facts.start_at > facts.now:
        yield Finding(
            code=FindingCode.STARTS_LATER,
            message=f"The plan starts at {exactly(facts.start_at)}, {due(facts.start_at, facts.now)}.",
            remedy="Wait, or cancel it (control.cancel) and trigger it again without start_at.",
        )
    if facts.state == PlanState.SCHEDULED:
        yield from _prerequisites(facts)


def _prerequisites(facts: Facts) -> Iterator[Finding]:
    waiting = [f"plan {plan_id}, which is {state}" for plan_id, state in facts.prerequisites]
    if waiting:
        yield Finding(
            code=FindingCode.PREREQUISITE_WAITS,
            message=f"The plan starts after {' and '.join(waiting)}.",
            remedy="See to it that they end, or cancel this plan (control.cancel) and trigger it without them.",
        )


def _paused(facts: Facts) -> Iterator[Finding]:
    failed = facts.having(StepState.ERROR)
    for step in failed:
        rescue = f"; its rescue strategy is {step.rescue}" if step.rescue else ""
        others = f" ({step.alike - len(failed)} more failed)" if step.alike > len(failed) else ""
        yield Finding(
            code=FindingCode.STEP_FAILED,
            message=f"{name(step)} failed with {error_text(step.error_class, step.error_message)}{rescue}{others}.",
            remedy="Correct the cause and resume the plan (control.resume) to run the step again, or skip the step "
            "(control.skip) and resume; control.retry runs one step only.",
            step_number=step.number,
            since=step.ended_at,
        )
    if facts.error_class or facts.error_message:
        yield Finding(
            code=FindingCode.ORCHESTRATION_FAILED,
            message=f"The orchestrator could not go on: {error_text(facts.error_class, facts.error_message)}.",
            remedy="Correct the cause, then resume the plan (control.resume).",
        )
    elif not failed and not facts.having(StepState.SKIPPING):
        yield Finding(
            code=FindingCode.PAUSED,
            message="The plan is paused, though no step of it is in error.",
            remedy="Resume the plan (control.resume).",
        )


def _undecided(facts: Facts) -> Iterator[Finding]:
    """For plans of which no step is active: only the orchestrator can go on."""
    active = any(step.state != StepState.ERROR for step in facts.steps)
    if active or not facts.orchestrators or facts.due_at is None or facts.now - facts.due_at < LATE:
        return
    yield Finding(
        code=FindingCode.ORCHESTRATOR_BEHIND,
        message=f"For {span(facts.now - facts.due_at)} the orchestrator has not come to this plan; "
        f"{counted(facts.envelopes_ahead(), MOST_COUNTED)} messages are before it.",
        remedy="Look into the orchestrator's log; if nobody leads, restart it.",
        since=facts.due_at,
    )


# --- steps -------------------------------------------------------------------------------------------------------


def _throttled(facts: Facts) -> Iterator[Finding]:
    held = facts.having(StepState.READY, is_throttled=True)
    if not held or facts.is_moving:
        return
    first = {step.limit_key: step for step in reversed(held)}
    limits, occupying = facts.limits(list(first)), facts.occupying(list(first))
    for key, step in reversed(first.items()):
        others = f"; {step.alike - 1} more of this plan are throttled" if step.alike > 1 else ""
        yield Finding(
            code=FindingCode.THROTTLED,
            message=f"{name(step)} waits for the limit {key!r}: "
            f"{_limit(limits.get(key), occupying.get(key, 0), facts)}{others}.",
            remedy="Wait until other steps with this key have ended, or raise concurrency_limit or rate_limit of the "
            "action.",
            step_number=step.number,
            since=step.ready_at,
        )


def _limit(limit: Limit | None, occupying: int, facts: Facts) -> str:
    if limit is None:
        return f"{occupying} steps occupy it"
    most = "" if limit.most is None else f" of {limit.most}"
    rate = ""
    if limit.starts is not None and limit.period is not None:
        rate = f", and at most {limit.starts} may start in {span(timedelta(seconds=limit.period))}"
        if limit.next_start_at is not None:
            rate += f", the next one {due(limit.next_start_at, facts.now)}"
    return f"{occupying}{most} steps occupy it{rate}"


def _running(facts: Facts) -> Iterator[Finding]:
    lost = facts.having(StepState.RUNNING, is_lost=True)
    for step in lost[:1]:
        seen = span(facts.now - step.ticket.world.heartbeat_at)
        yield Finding(
            code=FindingCode.WORKER_LOST,
            message=f"{name(step)} was claimed by {step.worker}, which was last seen {seen} ago.",
            remedy="An orchestrator will take its steps back: those that may be repeated run again, the others end in "
            "error and wait for a person.",
            step_number=step.number,
            since=step.ticket.world.heartbeat_at,
        )
    for step in facts.having(StepState.RUNNING, is_lost=False, is_stuck=True)[:1]:
        yield Finding(
            code=FindingCode.WORKER_STUCK,
            message=f"{name(step)} runs on {step.worker} for all the ledger knows, but that process has not compared "
            f"its steps with the ledger for {span(facts.now - step.ticket.world.looked_at)}.",
            remedy=f"See what keeps it (its log, or py-spy dump --pid {step.ticket.world.pid}). If it does not go on, "
            "kill it: it is replaced, and its steps are taken back.",
            step_number=step.number,
            since=step.ticket.world.looked_at,
        )
    for step in facts.having(StepState.RUNNING, is_lost=False):
        if step.stop_request:
            yield _stopping(step)


def _stopping(step: Any) -> Finding:
    remedy = "Wait; run() ends at its next check_cancelled(). If it has none: control.abort(step)."
    if step.stop_request == StopRequest.ABORT:
        worker = f"restart the worker {step.worker}"
        remedy = f"Wait; if its code does not end, {worker}, or give the plan up: control.halt(plan)."
    return Finding(
        code=FindingCode.STOPPING,
        message=f"{name(step)} was told to {step.stop_request}, and its code on {step.worker} has not ended yet.",
        remedy=remedy,
        step_number=step.number,
    )


def _suspended(facts: Facts) -> Iterator[Finding]:
    by_alarm: dict[str, Any] = {}
    for step in facts.having(StepState.SUSPENDED):
        by_alarm.setdefault(step.alarm, step)
    for alarm in (Alarm.PARKED, Alarm.RETRY, Alarm.NONE, Alarm.TIMEOUT, Alarm.WAKE, Alarm.EVENT):
        step = by_alarm.get(alarm)
        if step is not None and (alarm is Alarm.PARKED or not facts.is_moving):
            row = facts.sub_plans.get(step.pk)
            if row is not None and alarm in (Alarm.NONE, Alarm.TIMEOUT):
                code, message, remedy = _waiting_for_sub_plans(row)
            else:
                code, message, remedy = _waiting(step, due(step.alarm_at, facts.now))
            others = f"; {step.alike - 1} more likewise" if step.alike > 1 else ""
            yield Finding(
                code=code,
                message=f"{name(step)} {message}{others}.",
                remedy=remedy,
                step_number=step.number,
                since=facts.suspended_since.get(step.pk),
            )


def _waiting_for_sub_plans(row: Any) -> tuple[FindingCode, str, str]:  # with annotations
    paused = f", {row.paused} {'are' if row.paused != 1 else 'is'} paused" if row.paused else ""
    return (
        FindingCode.SUB_PLANS_WAIT,
        f"waits for its sub-plans: {row.ended} of {row.total} ended, {row.total - row.made} are to be made{paused}",
        "Look at those that have not ended: explain(sub_plan) says why; control.resume(sub_plan) resumes paused ones.",
    )


def _waiting(step: Any, when: str) -> tuple[FindingCode, str, str]:
    error = error_text(step.error_class, step.error_message)
    send = 'Send it the event: control.send_event(step, "name", data).'
    match step.alarm:
        case Alarm.PARKED:
            deploy = (
                f"Deploy {step.action_name} and restart the workers of the queue {step.queue!r}, or cancel the plan."
            )
            return FindingCode.CLASS_MISSING, f"needs code that its worker lacks ({error}); tried again {when}", deploy
        case Alarm.RETRY:
            tries = f"{step.failures} {'tries' if step.failures != 1 else 'try'} failed, the last with {error}"
            return (
                FindingCode.RETRY_WAITS,
                f"is tried again {when}: {tries}",
                "Wait, or correct the cause and let it run now: control.retry(step).",
            )
        case Alarm.WAKE:
            return FindingCode.TIMER_WAITS, f"has suspended itself and is called again {when}", "Wait."
        case Alarm.EVENT:
            return FindingCode.TIMER_WAITS, f"gets an event that was sent with a delay {when}", "Wait."
        case Alarm.TIMEOUT:
            return FindingCode.EVENT_WAITS, f"waits for an event; its time is over {when}", send
    return FindingCode.EVENT_WAITS, "waits for an event, without a time limit", send


def _skipping(facts: Facts) -> Iterator[Finding]:
    if facts.is_moving:
        return
    for step in facts.having(StepState.SKIPPING)[:1]:
        others = f"; {step.alike - 1} more likewise" if step.alike > 1 else ""
        yield Finding(
            code=FindingCode.SKIPPING,
            message=f"{name(step)} is being skipped: a worker has to call its on_skip first{others}.",
            remedy=f"Wait; the call needs a worker of the queue {step.queue!r}.",
            step_number=step.number,
        )
