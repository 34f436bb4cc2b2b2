"""What is true of the ledger between any two transactions, whatever happened: checked after every database test."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from django.db.models import Count, F, Q

from dynflow_app.models import (
    Action,
    Attempt,
    Dependency,
    Envelope,
    Event,
    ExecutionPlan,
    Gate,
    Occurrence,
    ResourceLock,
    Step,
    Ticket,
)
from dynflow_app.payloads.json import REFERENCE_KEY
from dynflow_app.states import (
    ACTIVE_STEP_STATES,
    TERMINAL_STEP_STATES,
    TICKETED_STEP_STATES,
    EventState,
    Phase,
    PlanState,
    StepState,
)

LETS_PASS = frozenset({StepState.SUCCESS, StepState.SKIPPED})
"""Steps that what waits for them need not wait for any more."""
FOREVER = datetime.max.replace(tzinfo=UTC)


def violations() -> list[str]:
    """Every broken invariant as one sentence."""
    checks = (
        _timers, _events, _stopped_plans, _active_steps, _gates, _tickets, _steps, _attempts, _references, _locks,
        _occurrences,
    )  # fmt: skip
    return [sentence for check in checks for sentence in check()]


def _timers() -> Iterator[str]:
    for step in Step.objects.exclude(alarm_at=None).exclude(state__in=(StepState.SUSPENDED, StepState.READY)):
        yield f"{step} of plan {step.plan_id} is {step.state}, yet has a timer"
    for step in Step.objects.filter(state=StepState.SUSPENDED).exclude(alarm="").filter(alarm_at=None):
        yield f"{step} of plan {step.plan_id} waits for {step.alarm}, but for no time"


def _events() -> Iterator[str]:
    ended = Event.objects.filter(state=EventState.WAITING, step__state__in=TERMINAL_STEP_STATES)
    for event in ended:
        yield f"{event} waits for step {event.step_id}, which has ended"


def _stopped_plans() -> Iterator[str]:
    stopped = Step.objects.filter(plan__state=PlanState.STOPPED, state__in=ACTIVE_STEP_STATES)
    stopped = stopped.exclude(phase=Phase.HOOK)
    # Halting leaves a suspended step as it is, but takes its timer.
    left = Q(state=StepState.SUSPENDED, alarm_at=None, plan__history__verb="halt")
    for step in stopped.exclude(left):
        yield f"plan {step.plan_id} is stopped, yet its {step} is {step.state}"
    for plan in ExecutionPlan.objects.filter(state=PlanState.STOPPED).exclude(active_steps=0):
        yield f"plan {plan.pk} is stopped, yet counts {plan.active_steps} active steps"
    # An envelope goes in the transaction that acts on it, so one that is here is unread; but nobody writes to the dead.
    late = Envelope.objects.filter(plan__state=PlanState.STOPPED, created_at__gt=F("plan__ended_at"))
    for envelope in late.exclude(kind="unlock"):
        yield f"{envelope} was written after the plan had stopped"


def _active_steps() -> Iterator[str]:
    active = Count("steps", filter=Q(steps__state__in=ACTIVE_STEP_STATES) & ~Q(steps__phase=Phase.HOOK))
    for plan in (
        ExecutionPlan.objects.exclude(history__verb="halt").annotate(counted=active).exclude(active_steps=F("counted"))
    ):
        yield f"plan {plan.pk} counts {plan.active_steps} active steps, but has {plan.counted}"


def _gates() -> Iterator[str]:
    waits_for = dict(Gate.objects.values_list("id", "waits_for"))
    expected: Counter[int] = Counter()
    for gate, state, after in Dependency.objects.values_list("gate_id", "step__state", "after_gate_id"):
        has_ended = waits_for[after] == 0 if after else state in LETS_PASS
        expected[gate] += not has_ended
    for gate, number in waits_for.items():
        if number != expected[gate]:
            yield f"gate {gate} says it waits for {number}, but {expected[gate]} of its dependencies have not ended"


def _tickets() -> Iterator[str]:
    for step in Step.objects.filter(state__in=TICKETED_STEP_STATES, ticket=None):
        yield f"{step} of plan {step.plan_id} is {step.state}, yet has no ticket"
    for ticket in Ticket.objects.exclude(step__state__in=TICKETED_STEP_STATES).select_related("step"):
        yield f"{ticket} is there, though the step is {ticket.step.state}"
    for ticket in Ticket.objects.filter(step__state=StepState.RUNNING, world=None):
        yield f"{ticket} can be claimed, though the step is running"
    for ticket in Ticket.objects.filter(step__state=StepState.READY).exclude(world=None):
        yield f"{ticket} belongs to a world, though the step is only ready"
    for ticket in Ticket.objects.exclude(queue=F("step__queue"), rank=-F("step__priority")):
        yield f"{ticket} is in another line than its step"
    limited = Step.objects.exclude(slot=None)
    for step in limited.exclude(state__in=(StepState.READY, StepState.RUNNING, StepState.SUSPENDED)):
        yield f"{step} of plan {step.plan_id} is {step.state}, yet takes a place of {step.slot}"
    for ticket in Ticket.objects.exclude(step__limit_key=None).filter(step__slot=None, throttled_by=None):
        yield f"{ticket} passed its limit without taking a place of it"


def _steps() -> Iterator[str]:
    behind = Step.objects.filter(gate__waits_for__gt=0)
    for step in behind.exclude(state__in=(StepState.PENDING, StepState.SKIPPED, StepState.CANCELLED)):
        yield f"{step} of plan {step.plan_id} is {step.state}, though its gate is closed"


def _attempts() -> Iterator[str]:
    numbers = Attempt.objects.values("step", "number").annotate(rows=Count("id")).filter(rows__gt=1)
    for row in numbers:
        yield f"attempt {row['number']} of step {row['step']} is there {row['rows']} times"
    for attempt in Attempt.objects.filter(number__gt=F("step__attempt")):
        yield f"{attempt} of step {attempt.step_id} never began"
    succeeded = Count("attempts", filter=Q(attempts__ended_as="succeeded"))
    done = Step.objects.filter(state=StepState.SUCCESS).annotate(times=succeeded)
    for step in done.filter(attempt=1).exclude(times=0):
        yield f"{step} of plan {step.plan_id} succeeded at once, and has a row that says so again"
    for step in done.filter(attempt__gt=1).exclude(times=1):
        yield f"{step} of plan {step.plan_id} is in success, but succeeded {step.times} times"


def _references() -> Iterator[str]:
    done = Action.objects.filter(steps__phase="run", steps__state=StepState.SUCCESS).exclude(consumes=[])
    for action in done:
        if _holds_reference(action.input):
            yield f"action {action} of plan {action.plan_id} ran with an unresolved reference"


def _locks() -> Iterator[str]:
    unread = set(Envelope.objects.filter(kind="unlock").values_list("plan", flat=True))
    for lock in ResourceLock.objects.filter(plan__state=PlanState.STOPPED).live().exclude(plan__in=unread):
        yield f"plan {lock.plan_id} has stopped, yet {lock}"
    started = (PlanState.RUNNING, PlanState.PAUSED)
    for lock in ResourceLock.objects.filter(plan__state__in=started, state__in=("requested", "waiting")):
        yield f"plan {lock.plan_id} is {lock.plan.state}, yet {lock}"
    for lock in ResourceLock.objects.filter(plan__has_locks=False):
        yield f"{lock} of plan {lock.plan_id}, which says it has none"
    yield from conflicts(ResourceLock.objects.exclude(held_at=None).select_related("plan"))


def conflicts(locks: Iterable[ResourceLock]) -> Iterator[str]:
    """Locks that were held at the same time though they should not, in all of history; sub-plans aside."""
    by_resource: defaultdict[str, list[ResourceLock]] = defaultdict(list)
    for lock in locks:
        if lock.plan.parent_step_id is None:
            by_resource[lock.resource].append(lock)
    for held in by_resource.values():
        last: dict[bool, tuple[datetime, ResourceLock]] = {}  # by whether it is shared: the one that was held longest
        for lock in sorted(held, key=lambda lock: lock.held_at or FOREVER):
            for is_shared, (until, other) in last.items():
                if (lock.held_at or FOREVER) < until and not (is_shared and lock.is_shared):
                    yield f"plan {lock.plan_id} got {lock} while plan {other.plan_id} had it"
            mine = (lock.unlocked_at or FOREVER, lock)
            last[lock.is_shared] = max(last.get(lock.is_shared, mine), mine, key=lambda each: each[0])


def _occurrences() -> Iterator[str]:
    for occurrence in Occurrence.objects.exclude(plan=None).exclude(plan__schedule=None):
        if occurrence.plan is not None and occurrence.plan.schedule_id != occurrence.schedule_id:
            yield f"{occurrence} of schedule {occurrence.schedule_id} has a plan of another"
    fired = Occurrence.objects.exclude(plan=None).values("plan").annotate(rows=Count("id")).filter(rows__gt=1)
    for row in fired:
        yield f"plan {row['plan']} was made by {row['rows']} occurrences"


def _holds_reference(value: object) -> bool:
    if isinstance(value, dict):
        return REFERENCE_KEY in value or any(map(_holds_reference, value.values()))
    return isinstance(value, list) and any(map(_holds_reference, value))
