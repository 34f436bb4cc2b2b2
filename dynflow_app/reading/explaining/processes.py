"""Reasons that lie with processes: nobody decides, nobody works, too much to do."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from dynflow_app import transport
from dynflow_app.conf import settings
from dynflow_app.models import WorldKind
from dynflow_app.reading.explaining.facts import MOST_COUNTED, Facts
from dynflow_app.reading.explaining.findings import Finding, FindingCode, counted, name, span
from dynflow_app.states import StepState

LATE = timedelta(seconds=10)
"""How long a step may wait for a worker, or a plan for the orchestrator, before that is worth a word."""


def services(facts: Facts) -> Iterator[Finding]:
    """Nobody who decides, or no doorbells."""
    if not facts.orchestrators:
        command = "dynflow_executor" if settings.in_process else "dynflow_orchestrator"
        seen = [last for kind, _, _, last in facts.worlds if kind != WorldKind.WORKER]
        last = f"; the last one was seen {span(facts.now - max(seen))} ago" if seen else ""
        yield Finding(
            code=FindingCode.NO_ORCHESTRATOR,
            message=f"No orchestrator is alive{last}.",
            remedy=f"Start one: manage.py {command}",
            since=max(seen, default=None),
        )
    if facts.redis.error:
        yield Finding(
            code=FindingCode.REDIS_UNREACHABLE,
            message=f"{facts.redis.error.rstrip('.')}.",
            remedy="Start Redis, or correct RQ_QUEUES; nothing is lost meanwhile.",
        )


def queues(facts: Facts) -> Iterator[Finding]:
    """Nobody who would run the ready steps, or too few."""
    oldest: dict[str, Any] = {}
    ready = facts.having(StepState.READY, is_throttled=False)
    for step in sorted(ready, key=lambda step: (step.is_hook, step.ready_at or facts.now)):
        oldest.setdefault(step.queue, step)
    late: list[tuple[int, Any]] = []
    soon: list[Any] = []
    for queue, step in oldest.items():
        ours = facts.listening(queue)
        workers = ours or facts.stock_workers(queue)
        if workers is None:
            continue
        if not workers:
            yield _no_worker(step)
        elif not ours and facts.redis.is_suspended:  # ours run steps all the same
            yield _suspended(step)
        elif step.ready_at is not None and facts.now - step.ready_at > LATE:
            late.append((workers, step))
        else:
            soon.append(step)
    if facts.is_moving:
        return
    if late:
        yield _backed_up(facts, *min(late, key=lambda item: item[1].ready_at))
    elif soon:
        yield from _in_turn(facts, soon[0])


def _suspended(step: Any) -> Finding:
    return Finding(
        code=FindingCode.WORKERS_SUSPENDED,
        message=f"The RQ workers of the queue {step.queue!r} are suspended; {_waits(step)}.",
        remedy="Let them go on: manage.py rqresume",
        step_number=step.number,
        since=step.ready_at,
    )


def _waits(step: Any) -> str:
    others = f" with {step.alike - 1} more" if step.alike > 1 else ""
    return f"{name(step, 'step')} waits there{others}"


def _no_worker(step: Any) -> Finding:
    queues = transport.known_queues()
    if settings.in_process:
        remedy = f"Restart manage.py dynflow_executor without queues, or with {step.queue} among them."
    elif queues is not None and step.queue not in queues:
        remedy = f"Add {step.queue!r} to RQ_QUEUES, then start a worker: manage.py rqworker {step.queue}"
    else:
        remedy = f"Start one: manage.py rqworker {step.queue}"
    return Finding(
        code=FindingCode.NO_WORKER,
        message=f"No worker listens to the queue {step.queue!r}; {_waits(step)}.",
        remedy=remedy,
        step_number=step.number,
        since=step.ready_at,
    )


def _in_turn(facts: Facts, step: Any) -> Iterator[Finding]:
    before = facts.ahead_of(step)
    if before:
        yield Finding(
            code=FindingCode.TURN_WAITS,
            message=f"{name(step)} waits for its turn in the queue {step.queue!r}, about "
            f"{counted(before, MOST_COUNTED)} {'step' if before == 1 else 'steps'} before it.",
            remedy="Wait; plans take turns, so those that were there before do not have to end first.",
            step_number=step.number,
            since=step.ready_at,
        )


def _backed_up(facts: Facts, workers: int, step: Any) -> Finding:
    rate = facts.ended_per_minute(step.queue)
    listen = "1 process listens" if workers == 1 else f"{workers} processes listen"
    return Finding(
        code=FindingCode.QUEUE_BACKED_UP,
        message=f"{name(step)} has been waiting in the queue {step.queue!r} for {span(facts.now - step.ready_at)}: "
        f"{counted(facts.ahead_of(step), MOST_COUNTED)} steps are before it, {listen}, "
        f"{rate:,.{0 if rate >= 10 else 1}f} steps a minute have ended lately.",
        remedy="Wait, or raise WORKER_THREADS."
        if settings.in_process
        else f"Wait, or start another worker: manage.py rqworker {step.queue}",
        step_number=step.number,
        since=step.ready_at,
    )
