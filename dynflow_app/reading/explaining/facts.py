"""What `explain` reads. Every query counts, or fetches a bounded number of rows; times are the database's."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any
from uuid import UUID

from django.core.exceptions import ImproperlyConfigured
from django.db.models import (
    BooleanField,
    Case,
    Count,
    F,
    Max,
    Min,
    OuterRef,
    Q,
    QuerySet,
    Subquery,
    TextField,
    Value,
    When,
    Window,
)
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Coalesce, Left, Now, RowNumber

from dynflow_app import transport
from dynflow_app.conf import settings
from dynflow_app.ledger.blocked import blocker
from dynflow_app.models import (
    Attempt,
    Envelope,
    ExecutionPlan,
    Limit,
    Prerequisite,
    Step,
    SubPlans,
    Ticket,
    World,
    WorldKind,
)
from dynflow_app.states import COUNTED_PHASES, Phase, PlanState, StepState, WorldState
from dynflow_app.transport.base import TransportError

SHOWN_PER_KIND = 3
MOST_STEPS = 60
MOST_COUNTED = 1000
RATE_WINDOW = timedelta(minutes=5)
STUCK = timedelta(seconds=20)
"""Workers compare what they have with the ledger every 5 seconds: one that has not for so long does nothing else."""
_BEYOND = 2**63 - 1
"""Larger than any key."""
_STATES = (StepState.READY, StepState.RUNNING, StepState.SUSPENDED, StepState.SKIPPING, StepState.ERROR)


@dataclass(frozen=True, slots=True)
class Redis:
    """What Redis says."""

    error: str = ""
    """Why it cannot be asked; empty if it can, or if there is none."""
    is_suspended: bool = False


@dataclass
class Facts:
    """One look at a plan. What only some reasons need is read when they ask."""

    plan_id: UUID
    action: str
    state: str
    is_frozen: bool
    is_waiting: bool
    start_at: datetime | None
    has_locks: bool
    error_class: str | None
    error_message: str | None
    blocker: dict[str, Any] | None
    """The session that has locked the row of the plan: pid, application, seconds."""
    now: datetime

    @property
    def silent_before(self) -> datetime:
        """Processes whose heartbeat is older do not count as alive."""
        return self.now - timedelta(seconds=settings.WORLD_TIMEOUT)

    @cached_property
    def steps(self) -> list[Any]:
        """The first few steps of each kind that could hold the plan up, with ``alike``: how many there are."""
        return list(_steps(self.plan_id, self.silent_before, self.now - STUCK))

    def having(self, state: StepState, **fields: Any) -> list[Any]:
        """Those of `steps` that are in `state` and have these values."""
        return [s for s in self.steps if s.state == state and all(getattr(s, k) == v for k, v in fields.items())]

    @cached_property
    def is_moving(self) -> bool:
        """Whether code of some step runs, and nobody wants it to end. Hooks run beside whatever a plan does."""
        return bool(self.having(StepState.RUNNING, is_lost=False, is_stuck=False, stop_request="", is_hook=False))

    @cached_property
    def worlds(self) -> list[tuple[str, list[str], int, datetime]]:
        """Kind and queues of processes, how many such are alive, and their last heartbeat."""
        alive = ~Q(state=WorldState.INVALIDATED) & Q(heartbeat_at__gte=self.silent_before)
        rows = World.objects.order_by().values_list("kind", "queues")
        return list(rows.annotate(alive=Count("id", filter=alive), last=Max("heartbeat_at")))

    @property
    def orchestrators(self) -> int:
        """How many processes are alive that may lead."""
        return sum(alive for kind, _, alive, _ in self.worlds if kind != WorldKind.WORKER)

    def listening(self, queue: str) -> int:
        """How many processes are alive that claim steps of `queue`; an executor without queues serves all."""
        return sum(
            alive
            for kind, queues, alive, _ in self.worlds
            if queue in queues or (kind == WorldKind.EXECUTOR and not queues)
        )

    @cached_property
    def redis(self) -> Redis:
        """Asks it, within its time limits for questions."""
        try:
            return Redis(is_suspended=transport.get().is_suspended())
        except (TransportError, ImproperlyConfigured) as error:
            return Redis(error=str(error))

    def stock_workers(self, queue: str) -> int | None:
        """RQ workers of other classes; None if nobody can tell."""
        try:
            return None if self.redis.error else transport.get().stock_workers(queue)
        except TransportError:
            return None

    @cached_property
    def due_at(self) -> datetime | None:
        """When the orchestrator may read the envelope of this plan; None if there is none."""
        due: datetime | None = Envelope.objects.filter(plan=self.plan_id).aggregate(due=Min("due_at"))["due"]
        return due

    def envelopes_ahead(self) -> int:
        """How many other plans are before this one, at most `MOST_COUNTED` + 1."""
        return Envelope.objects.filter(due_at__lt=self.due_at)[: MOST_COUNTED + 1].count()

    def ahead_of(self, step: Step) -> int:
        """How many ready steps of its queue will be claimed first, at most `MOST_COUNTED` + 1."""
        ticket = step.ticket
        same = Q(rank=ticket.rank, tag__lt=ticket.tag) | Q(rank=ticket.rank, tag=ticket.tag, step__lt=step.pk)
        waiting = Ticket.objects.claimable().filter(queue=ticket.queue)
        return waiting.filter(Q(rank__lt=ticket.rank) | same).order_by()[: MOST_COUNTED + 1].count()

    def ended_per_minute(self, queue: str) -> float:
        """Steps of `queue` that ended in the last 5 minutes, as far as they are among the 1000 made before the one
        that is claimed next."""
        following = Ticket.objects.claimable().filter(queue=queue).order_by("rank", "tag", "step")
        front = Coalesce(Subquery(following.values("step")[:1]), Value(_BEYOND))
        latest = Step.objects.filter(pk__lt=front).order_by("-pk").values("pk")[:MOST_COUNTED]
        found = Step.objects.filter(pk__in=latest, ended_at__gte=self.now - RATE_WINDOW).aggregate(
            n=Count("id"), of_queue=Count("id", filter=Q(queue=queue)), first=Min("ended_at")
        )
        window = self.now - found["first"] if found["n"] == MOST_COUNTED else RATE_WINDOW
        return float(found["of_queue"] * 60 / max(1.0, window.total_seconds()))

    def limits(self, keys: Collection[str]) -> dict[str, Limit]:
        """These limits."""
        return Limit.objects.in_bulk(keys)

    def occupying(self, keys: Collection[str]) -> dict[str, int]:
        """How many steps, of any plan, each of these limits has let pass and that have not ended."""
        passed = Step.objects.filter(slot__in=keys).order_by()
        return dict(passed.values_list("slot").annotate(n=Count("id")))

    @cached_property
    def prerequisites(self) -> list[tuple[UUID, str]]:
        """The first few plans that this one waits for, and their states."""
        rows = Prerequisite.objects.filter(plan=self.plan_id).exclude(after__state=PlanState.STOPPED)
        return list(rows.order_by("id").values_list("after_id", "after__state")[:SHOWN_PER_KIND])

    @cached_property
    def sub_plans(self) -> dict[int, Any]:
        """How far the suspended ones of `steps` that have sub-plans are, with ``paused``."""
        ids = [step.pk for step in self.having(StepState.SUSPENDED)]
        of_step = ExecutionPlan.objects.filter(parent_step=OuterRef("pk"), state=PlanState.PAUSED).order_by()
        paused = Coalesce(Subquery(of_step.values("parent_step").annotate(n=Count("id")).values("n")), 0)
        found: dict[int, Any] = SubPlans.objects.annotate(paused=paused).in_bulk(ids) if ids else {}
        return found

    @cached_property
    def suspended_since(self) -> dict[int, datetime]:
        """When the last invocation of each suspended step of `steps` ended."""
        ids = [step.pk for step in self.having(StepState.SUSPENDED)]
        ended = Attempt.objects.filter(step_id__in=ids).order_by().values_list("step_id")
        return dict(ended.annotate(last=Max("ended_at")))


def look(plan_id: UUID) -> Facts | None:
    """Begin a look at a plan; None if it is gone."""
    row = (
        ExecutionPlan.objects.filter(pk=plan_id)
        .values_list("id", "action", "state", "is_frozen", "is_waiting", "start_at", "has_locks")
        .annotate(**_ERROR, blocker=blocker(), now=Now())
        .first()
    )
    return None if row is None else Facts(*row)


def _steps(plan_id: UUID, silent_before: datetime, stuck_before: datetime) -> QuerySet[Any]:
    is_gone = Q(ticket__world__state=WorldState.INVALIDATED) | Q(ticket__world__heartbeat_at__lt=silent_before)
    is_lost = Case(When(Q(state=StepState.RUNNING) & is_gone, then=True), default=False, output_field=BooleanField())
    is_behind = Q(ticket__world__looked_at__lt=stuck_before)
    is_stuck = Case(When(is_behind & Q(state=StepState.RUNNING), then=True), default=False, output_field=BooleanField())
    is_hook = Case(When(phase=Phase.HOOK, then=True), default=False, output_field=BooleanField())
    is_throttled = Case(When(ticket__throttled_by__isnull=False, then=True), default=False, output_field=BooleanField())
    kind = Case(
        When(state=StepState.READY, is_throttled=False, then=F("queue")),
        When(state=StepState.SUSPENDED, then=F("alarm")),
        default=Value(""),
        output_field=TextField(),
    )
    alike = [F("state"), F("is_throttled"), F("kind"), F("is_lost"), F("is_stuck"), F("is_hook"), F("stop_request")]
    first: list[Any] = [Case(When(state=StepState.SUSPENDED, then=F("alarm_at")), default=F("ready_at")), F("id")]
    return (
        Step.objects.filter(plan=plan_id, state__in=_STATES)
        .exclude(~Q(phase__in=COUNTED_PHASES), state=StepState.ERROR)
        .defer("error")
        .select_related("ticket__world")
        .annotate(is_throttled=is_throttled)
        .annotate(kind=kind, is_lost=is_lost, is_stuck=is_stuck, is_hook=is_hook)
        .annotate(action_name=F("action__name"), **_ERROR)
        .annotate(
            alike=Window(Count("id"), partition_by=alike),
            nth=Window(RowNumber(), partition_by=alike, order_by=first),
        )
        .filter(nth__lte=SHOWN_PER_KIND)
        .order_by("nth", "id")[:MOST_STEPS]
    )


_ERROR = {
    "error_class": KeyTextTransform("class", "error"),
    "error_message": Left(KeyTextTransform("message", "error"), 300),
}
