"""Cancel, abort and halt: end what has not ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import F, Q
from django.db.models.functions import Now

from dynflow_app.control.common import as_singleton, fresh, lock, lock_by_key, note, note_many, ring_after_commit
from dynflow_app.exceptions import WrongStateError
from dynflow_app.ledger import ending, events
from dynflow_app.ledger.asides import needs_worker
from dynflow_app.ledger.limiting import admit
from dynflow_app.ledger.releasing import adjust_active
from dynflow_app.messages import EndedAs, EnvelopeKind
from dynflow_app.models import Attempt, Envelope, ExecutionPlan, Step, SubPlans
from dynflow_app.models.base import ledger_alias
from dynflow_app.models.step import StepQuerySet
from dynflow_app.states import (
    ACTIVE_STEP_STATES,
    ASIDE_PHASES,
    COUNTED_PHASES,
    DEAF_ALARMS,
    LIVE_PLAN_STATES,
    Alarm,
    Cause,
    Phase,
    PlanResult,
    PlanState,
    StepState,
    StopRequest,
)

_NO_TIMER = {"alarm": "", "alarm_at": None, "deadline_at": None, "is_held": False}
_FORGOTTEN = {
    "class": "Halted",
    "message": (
        "The plan was halted while this step ran. Nobody waited for it, so it is unknown whether its effects took "
        "place."
    ),
    "backtrace": "",
}


_ENDED_CHILDREN = sum(
    (F(f"sub_plans__{result}") for result in ("warning", "error", "cancelled")), F("sub_plans__success")
)
_WAITS_FOR_CHILDREN = Q(state__in=(StepState.READY, StepState.SUSPENDED), sub_plans__made__gt=_ENDED_CHILDREN)
_CHILDREN_KINDS = {
    StopRequest.CANCEL: EnvelopeKind.CANCEL_CHILDREN.value,
    StopRequest.ABORT: EnvelopeKind.ABORT_CHILDREN.value,
}


_UNDER_WAY = (PlanState.PLANNING, PlanState.RUNNING, PlanState.PAUSED)


def cancel(target: ExecutionPlan | Step, *, by: Any = "", reason: str = "") -> None:
    """Ask a plan, or one step, to end.

    What has not begun is cancelled. A suspended step is asked by the `cancel` method of its action, in a worker;
    without one it is cancelled. A running step is asked: `check_cancelled` raises, a coroutine is cancelled, `cancel`
    is called beside it. An action may answer by succeeding. The plan stops when all have ended.
    Refreshes `target`. Raises `WrongStateError` if it has ended.
    """
    _end(target, StopRequest.CANCEL, by, reason)


def abort(target: ExecutionPlan | Step, *, by: Any = "", reason: str = "") -> None:
    """As `cancel`, without asking: suspended steps are cancelled at once, and running code is made to end as well as
    can be; the step's error says how."""
    _end(target, StopRequest.ABORT, by, reason)


def halt(plan: ExecutionPlan, *, by: Any = "", reason: str = "") -> None:
    """Stop a plan without asking anybody. Its steps stay as they are; running ones are forgotten: what they did is
    unknown, and what they report will be refused. Refreshes `plan`. Raises `WrongStateError` if it has stopped."""
    with transaction.atomic(using=ledger_alias()):
        lock(plan, LIVE_PLAN_STATES, "halted")
        steps = Step.objects.filter(plan=plan)
        keys = _limit_keys(steps)
        SubPlans.objects.filter(step__in=steps).update(wakes_below=None)  # before steps: the order of locks
        # Neither claims nor alarms ask for the plan's lock, so first what could wake, then what could be claimed.
        steps.filter(state=StepState.SUSPENDED).update(**_NO_TIMER | {"is_held": True})  # it keeps no slot
        steps.filter(phase__in=ASIDE_PHASES).transition([StepState.READY], StepState.CANCELLED, ended_at=Now())
        steps.transition([StepState.READY], StepState.PENDING, ready_at=None, **_NO_TIMER)
        _forget_running(steps)
        steps.transition([StepState.SKIPPING], StepState.ERROR, ended_at=Now())
        events.drop(list(steps.filter(is_addressed=True).values_list("pk", flat=True)))
        Envelope.objects.filter(plan=plan).delete()
        ExecutionPlan.objects.filter(pk=plan.pk).update(active_steps=0)
        found = set(steps.filter(phase__in=COUNTED_PHASES).values_list("state", flat=True))
        is_error = StepState.ERROR in found and StepState.CANCELLED not in found
        ready = ending.stop([plan.pk], PlanResult.ERROR if is_error else PlanResult.CANCELLED)
        if steps.filter(sub_plans__made__gt=_ENDED_CHILDREN).exists():
            Envelope.objects.create(kind=EnvelopeKind.HALT_CHILDREN.value, plan=plan)
        note(plan, "halt", by, reason)
        ring_after_commit(ready + admit(keys))
    plan.refresh_from_db()


def end_many(plan_ids: Collection[UUID], request: StopRequest, *, by: Any = "", reason: str = "") -> int:
    """As `cancel` or `abort` for many plans, with a fixed number of statements; those that have stopped are left out.

    Returns how many there were.
    """
    with transaction.atomic(using=ledger_alias()):
        live = [plan for plan in ExecutionPlan.objects.filter(pk__in=plan_ids).lock() if not plan.is_stopped]
        if live:
            steps = Step.objects.filter(plan__in=[plan.pk for plan in live])
            _end_locked(live, steps, request, is_whole=True)
            note_many([plan.pk for plan in live], str(request), by, reason)
    return len(live)


def _end(target: ExecutionPlan | Step, request: StopRequest, by: Any, reason: str) -> None:
    verb = "cancelled" if request == StopRequest.CANCEL else "aborted"
    with transaction.atomic(using=ledger_alias()):
        if isinstance(target, Step):
            plan = lock_by_key(target.plan_id, LIVE_PLAN_STATES, "changed")
            steps = Step.objects.filter(pk=_require_unfinished(target, verb).pk)
            number: int | None = target.number
        else:
            plan = lock(target, LIVE_PLAN_STATES, verb)
            steps, number = Step.objects.filter(plan=plan), None
        _end_locked([plan], steps, request, is_whole=number is None)
        note(plan, str(request), by, reason, number)
    target.refresh_from_db()


def _end_locked(plans: Collection[ExecutionPlan], steps: StepQuerySet, request: StopRequest, *, is_whole: bool) -> None:
    """End these steps of locked plans, which are all of their steps if `is_whole`."""
    keys = _limit_keys(steps)
    ready, ended = _end_steps(steps, request)
    _end_children(steps, request)  # after a step that makes them was told to end, so that none is missed
    before = [plan.pk for plan in plans if plan.state not in _UNDER_WAY]
    if is_whole and before:
        ending.cancel_rest(before)
        Envelope.objects.filter(plan__in=before).delete()
        ending.stop(before, PlanResult.CANCELLED)
    under_way = [plan for plan in plans if plan.state in _UNDER_WAY]
    if under_way:
        _settle(under_way, ended, is_whole=is_whole)
    ring_after_commit(ready + admit(keys))


def _require_unfinished(step: Step, verb: str) -> Step:
    found = fresh(step)
    if found.phase in ASIDE_PHASES:
        raise WrongStateError(
            f"Step {found.number} is a {found.phase} step, which is over soon; cancel the plan instead.",
            state=found.state,
        )
    if found.state not in (StepState.PENDING, *ACTIVE_STEP_STATES - {StepState.SKIPPING}):
        raise WrongStateError(f"Step {found.number} is {found.state} and cannot be {verb}.", state=found.state)
    return found


def _end_steps(steps: StepQuerySet, request: StopRequest) -> tuple[Counter[str], Counter[UUID]]:
    """End these steps of locked plans as far as possible. Returns queues with ready steps, and how many active ones
    ended of which plan. Those with sub-plans that have not ended do so after them."""
    steps = steps.exclude(phase=Phase.HOOK).exclude(_WAITS_FOR_CHILDREN)
    asked = []
    if request == StopRequest.CANCEL:
        suspended = steps.filter(state=StepState.SUSPENDED).exclude(alarm__in=DEAF_ALARMS).select_related("action")
        asked = [(step.pk, step.queue) for step in suspended if needs_worker(step.action.name, "cancel")]
        Step.objects.filter(pk__in=[pk for pk, _ in asked]).transition(
            [StepState.SUSPENDED], StepState.READY, cause=Cause.CANCEL, alarm="", alarm_at=None, ready_at=Now()
        )
    others = (
        steps.exclude(cause=Cause.CANCEL, state=StepState.READY) if asked or request == StopRequest.CANCEL else steps
    )
    # Locked before they are counted: claims do not ask for the plan's lock.
    active = others.filter(state__in=(StepState.READY, StepState.SUSPENDED, StepState.SKIPPING)).order_by("pk")
    ending_now = dict(active.select_for_update(no_key=True, of=("self",)).values_list("pk", "plan_id"))
    Step.objects.filter(pk__in=ending_now).transition(
        [StepState.READY, StepState.SUSPENDED, StepState.SKIPPING], StepState.CANCELLED, ended_at=Now(), **_NO_TIMER
    )
    # Finalize steps stay: if all that runs answers with success, the plan goes on to them.
    steps.exclude(phase=Phase.FINALIZE).transition(
        [StepState.PENDING, StepState.ERROR], StepState.CANCELLED, ended_at=Now()
    )
    steps.filter(state=StepState.RUNNING).exclude(stop_request=StopRequest.ABORT).update(stop_request=request)
    events.drop(list(steps.filter(state=StepState.CANCELLED, is_addressed=True).values_list("pk", flat=True)))
    return Counter(queue for _, queue in asked), Counter(ending_now.values())


def _end_children(steps: StepQuerySet, request: StopRequest) -> None:
    """Have the sub-plans of these steps ended, a portion at a time, by the orchestrator."""
    parents = steps.filter(sub_plans__made__gt=_ENDED_CHILDREN)
    plan_ids = set(parents.values_list("plan_id", flat=True))
    if plan_ids:
        parents.update(stop_request=request)
        # What waits for its next try would see only then that it is to end.
        parents.filter(state=StepState.SUSPENDED, alarm__in=DEAF_ALARMS).update(alarm=Alarm.WAKE, alarm_at=Now())
        kind = _CHILDREN_KINDS[request]
        Envelope.objects.bulk_create(Envelope(kind=kind, plan_id=plan_id) for plan_id in plan_ids)


def _settle(plans: Collection[ExecutionPlan], ended: Counter[UUID], *, is_whole: bool) -> None:
    """Let the orchestrator stop those of which nothing is left; the others are stopped when their last step has
    ended."""
    keys = [plan.pk for plan in plans]
    paused = [plan for plan in plans if plan.state == PlanState.PAUSED]
    if is_whole:
        # Nothing of a whole plan runs any more, so it does not have to be the only one.
        ExecutionPlan.objects.filter(pk__in=[plan.pk for plan in paused]).transition(
            [PlanState.PAUSED], PlanState.RUNNING, result=PlanResult.PENDING, singleton=None
        )
    else:
        for plan in paused:
            with as_singleton(plan, "changed"):
                ExecutionPlan.objects.filter(pk=plan.pk).transition(
                    [PlanState.PAUSED], PlanState.RUNNING, result=PlanResult.PENDING
                )
    adjust_active(Counter({plan_id: -number for plan_id, number in ended.items() if plan_id in set(keys)}))
    active = Step.objects.filter(plan__in=keys).exclude(phase=Phase.HOOK).active()
    quiet = set(keys) - set(active.values_list("plan_id", flat=True))
    if is_whole:  # nobody is left who could answer with success
        ending.cancel_rest(quiet)
    Envelope.objects.bulk_create(
        Envelope(kind=EnvelopeKind.SETTLED.value, plan_id=plan_id) for plan_id in quiet - set(ended)
    )


def _limit_keys(steps: StepQuerySet) -> set[str]:
    keys = steps.filter(state__in=ACTIVE_STEP_STATES, limit_key__isnull=False).values_list("limit_key", flat=True)
    return {key for key in keys if key is not None}


def _forget_running(steps: StepQuerySet) -> None:
    running = list(steps.filter(state=StepState.RUNNING).select_related("world"))
    Attempt.objects.bulk_create(
        Attempt(
            step=step, number=step.attempt, ended_as=EndedAs.LOST.value, worker=str(step.world), error=_FORGOTTEN,
            started_at=step.started_at or Now(), ended_at=Now(),
        )
        for step in running
    )  # fmt: skip
    steps.transition([StepState.RUNNING], StepState.ERROR, world=None, error=_FORGOTTEN, ended_at=Now(), **_NO_TIMER)
