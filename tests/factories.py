"""Rows for tests. A factory fills in what the given state implies, so that every constraint holds."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import factory
from django.contrib.auth.models import Permission, User

from dynflow_app import clock
from dynflow_app.models import (
    Action,
    Attempt,
    ExecutionPlan,
    HistoryEntry,
    OutputChunk,
    Step,
    Ticket,
    World,
    WorldKind,
)
from dynflow_app.states import ACTIVE_STEP_STATES, TICKETED_STEP_STATES, Phase, PlanResult, PlanState, StepState

FAILURE = {
    "class": "project.errors.Unreachable",
    "message": "host h1 did not answer",
    "backtrace": "Traceback (most recent call last):\n  File 'app.py', line 1, in run\nUnreachable: host h1\n",
}
_STARTED_PLAN = (PlanState.RUNNING, PlanState.PAUSED, PlanState.STOPPED)
_STARTED_STEP = (
    StepState.RUNNING,
    StepState.SUSPENDED,
    StepState.SUCCESS,
    StepState.ERROR,
    StepState.SKIPPING,
    StepState.SKIPPED,
)
_HAS_SLOT = (StepState.READY, StepState.RUNNING, StepState.SUSPENDED)
_ENDED_STEP = (StepState.SUCCESS, StepState.ERROR, StepState.SKIPPED, StepState.CANCELLED)


class PlanFactory(factory.django.DjangoModelFactory):
    """A plan; ``state`` decides about times and result."""

    class Meta:
        model = ExecutionPlan

    action = "project.bench.actions.Fan"
    state = PlanState.PLANNED
    created_at = factory.LazyFunction(lambda: clock.now() - timedelta(minutes=2))

    @factory.lazy_attribute
    def result(self) -> str:
        """Good, unless the state says otherwise."""
        if self.state == PlanState.PAUSED:
            return PlanResult.ERROR
        return PlanResult.SUCCESS if self.state == PlanState.STOPPED else PlanResult.PENDING

    @factory.lazy_attribute
    def started_at(self) -> Any:
        """A second after it was made."""
        return self.created_at + timedelta(seconds=1) if self.state in _STARTED_PLAN else None

    @factory.lazy_attribute
    def ended_at(self) -> Any:
        """A minute later."""
        return self.created_at + timedelta(seconds=61) if self.state == PlanState.STOPPED else None


class ActionFactory(factory.django.DjangoModelFactory):
    """A planned action."""

    class Meta:
        model = Action

    plan = factory.SubFactory(PlanFactory)
    number = factory.Sequence(lambda n: n + 1)
    name = "project.bench.actions.NoOp"
    input = factory.LazyFunction(lambda: {"host": "h1"})


class WorldFactory(factory.django.DjangoModelFactory):
    """A process that is alive."""

    class Meta:
        model = World

    kind = WorldKind.WORKER
    host = "worker.example.com"
    pid = factory.Sequence(lambda n: 1000 + n)
    queues = factory.LazyFunction(lambda: ["default", "rex"])
    memory = 64 * 1024 * 1024
    version = "0.1.0"
    heartbeat_at = factory.LazyFunction(clock.now)


class StepFactory(factory.django.DjangoModelFactory):
    """A step with its action; ``state`` decides about attempt, world, error and times."""

    class Meta:
        model = Step
        exclude = ("began",)

    is_throttled = False
    limit_key = None
    began = factory.LazyFunction(lambda: clock.now() - timedelta(seconds=90))
    plan = factory.SubFactory(PlanFactory)
    action = factory.SubFactory(ActionFactory, plan=factory.SelfAttribute("..plan"))
    number = factory.SelfAttribute("action.number")
    phase = "run"
    state = StepState.PENDING
    queue = "default"
    attempt = factory.LazyAttribute(lambda step: 1 if step.state in _STARTED_STEP else 0)
    error = factory.LazyAttribute(lambda step: FAILURE if step.state == StepState.ERROR else None)
    ready_at = factory.LazyAttribute(lambda step: None if step.state == StepState.PENDING else step.began)
    started_at = factory.LazyAttribute(
        lambda step: step.began + timedelta(seconds=1) if step.state in _STARTED_STEP else None
    )
    ended_at = factory.LazyAttribute(
        lambda step: step.began + timedelta(seconds=4.5) if step.state in _ENDED_STEP else None
    )
    world = factory.Maybe(
        factory.LazyAttribute(lambda step: step.state == StepState.RUNNING),
        yes_declaration=factory.SubFactory(WorldFactory),
        no_declaration=None,
    )

    worker = factory.LazyAttribute(
        lambda step: str(step.world) if step.world else "worker.example.com:1000" if step.state in _ENDED_STEP else ""
    )
    slot = factory.LazyAttribute(
        lambda step: None if step.is_throttled or step.state not in _HAS_SLOT else step.limit_key
    )

    @classmethod
    def _build(cls, model_class: type[Step], *args: Any, **kwargs: Any) -> Step:
        return model_class(*args, **_of_the_step_itself(kwargs))

    @classmethod
    def _create(cls, model_class: type[Step], *args: Any, **kwargs: Any) -> Step:
        step: Step = super()._create(model_class, *args, **_of_the_step_itself(kwargs))
        draw_tickets([step], world=kwargs["world"], is_throttled=kwargs["is_throttled"])
        if step.phase != Phase.HOOK:
            _count_active(step.plan, step.state, 1)
        Attempt.objects.bulk_create(_last_attempts([step]))
        return step


class AttemptFactory(factory.django.DjangoModelFactory):
    """An attempt that failed."""

    class Meta:
        model = Attempt

    step = factory.SubFactory(StepFactory, state=StepState.SUSPENDED)
    number = 1
    ended_as = "failed"
    worker = "worker.example.com:1000"
    error = factory.LazyFunction(lambda: FAILURE)
    started_at = factory.LazyFunction(lambda: clock.now() - timedelta(seconds=60))
    ended_at = factory.LazyAttribute(lambda attempt: attempt.started_at + timedelta(seconds=3))


class ChunkFactory(factory.django.DjangoModelFactory):
    """A line of output."""

    class Meta:
        model = OutputChunk

    action = factory.SubFactory(ActionFactory)
    attempt = 1
    text = factory.Sequence(lambda n: f"line {n}\n")


class HistoryFactory(factory.django.DjangoModelFactory):
    """Somebody resumed a plan."""

    class Meta:
        model = HistoryEntry

    plan = factory.SubFactory(PlanFactory)
    verb = "resume"
    actor = "ada"
    reason = "host is back"


def add_steps(plan: ExecutionPlan, count: int, state: str = StepState.SUCCESS, first: int = 1) -> list[Step]:
    """`count` steps numbered from `first`, in a few statements."""
    numbers = range(first, first + count)
    actions = Action.objects.bulk_create([ActionFactory.build(plan=plan, number=number) for number in numbers])
    world = WorldFactory() if state == StepState.RUNNING else None
    steps = [StepFactory.build(plan=plan, action=action, state=state, world=world) for action in actions]
    steps = Step.objects.bulk_create(steps)
    Attempt.objects.bulk_create(_last_attempts(steps))
    draw_tickets(steps, world=world)
    _count_active(plan, state, count)
    return steps


def draw_tickets(steps: list[Step], *, world: World | None = None, is_throttled: bool = False) -> None:
    """The tickets of those of these steps that have to have one."""
    tickets = [
        Ticket(
            step=step, queue=step.queue, rank=-step.priority, tag=step.pk, fairness_key=str(step.plan_id),
            throttled_by=step.limit_key if is_throttled else None,
            world=world if step.state == StepState.RUNNING else None,
        )
        for step in steps
        if step.state in TICKETED_STEP_STATES
    ]  # fmt: skip
    Ticket.objects.bulk_create(tickets)


def _of_the_step_itself(given: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name not in ("world", "is_throttled")}


def _last_attempts(steps: list[Step]) -> list[Attempt]:
    """The attempt that made a step what it is."""
    ended_as = {StepState.ERROR: "failed"}
    return [
        AttemptFactory.build(step=step, number=step.attempt, ended_as=ended_as[StepState(step.state)], error=step.error)
        for step in steps
        if step.state in ended_as
    ]


def _count_active(plan: ExecutionPlan, state: str, count: int) -> None:
    if state in ACTIVE_STEP_STATES:
        plan.active_steps += count
        ExecutionPlan.objects.filter(pk=plan.pk).update(active_steps=plan.active_steps)


def user(name: str = "viewer", *permissions: str, is_staff: bool = True) -> User:
    """A user with these permissions of ours, such as ``view_executionplan``."""
    made = User.objects.create_user(name, password="x", is_staff=is_staff)
    found = Permission.objects.filter(content_type__app_label="dynflow_app", codename__in=permissions)
    assert len(found) == len(permissions)
    made.user_permissions.set(found)
    return made
