"""The bodies. Times are UTC, durations seconds; what looks like a secret is masked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.urls import reverse
from rest_framework import ISO_8601, serializers

from dynflow_app import clock
from dynflow_app.actions.middleware import presented
from dynflow_app.models import ExecutionPlan, ResourceLock, Step, SubPlans
from dynflow_app.reading.explaining import Finding
from dynflow_app.reading.progress import eta, ratio
from dynflow_app.reading.rest import Counts
from dynflow_app.states import TERMINAL_STEP_STATES, PlanState

MOST = 100
SUB_PLAN_COUNTS = ("total", "made", "success", "warning", "error", "cancelled")

if TYPE_CHECKING:
    PlanBase = serializers.ModelSerializer[ExecutionPlan]
    StepBase = serializers.ModelSerializer[Step]
    RowBase = serializers.Serializer[dict[str, Any]]
    FindingBase = serializers.Serializer[Finding]
else:
    PlanBase = StepBase = serializers.ModelSerializer
    RowBase = FindingBase = serializers.Serializer


def utc() -> Any:
    """A time in UTC whatever zone and format the project prefers."""
    return serializers.DateTimeField(format=ISO_8601, default_timezone=UTC, read_only=True)


def seconds(started: datetime | None, ended: datetime | None) -> float | None:
    """How long something took, or has been taking."""
    if started is None:
        return None
    return round(max(((ended or clock.now()) - started).total_seconds(), 0.0), 3)


def poll_after(state: str, created_at: datetime) -> int | None:
    """Seconds until it is worth asking again; None if nothing will change any more."""
    if state == PlanState.STOPPED:
        return None
    age = clock.now() - created_at
    steps = ((timedelta(seconds=10), 1), (timedelta(minutes=1), 2), (timedelta(minutes=10), 5))
    return next((wait for limit, wait in steps if age < limit), 30)


def error_of(row: Any) -> dict[str, Any] | None:
    """Class and message, if there was an error."""
    found = {"class": row.error_class, "message": row.error_message}
    return found if found["class"] or found["message"] else None


def lock_body(lock: ResourceLock) -> dict[str, Any]:
    """A lock as its plan, and the pages of what it locks, show it."""
    since = lock.held_at or lock.queued_at or lock.created_at
    return {
        "plan": str(lock.plan_id),
        "resource": lock.resource,
        "shared": lock.is_shared,
        "state": lock.state,
        "since": since.astimezone(UTC).isoformat().replace("+00:00", "Z"),
    }


class Linked:
    """Addresses within the mounted API, without scheme and host."""

    context: dict[str, Any]

    def link(self, name: str, *args: Any) -> str:
        """The path of a view."""
        current = self.context["request"].resolver_match.namespace
        return reverse(f"dynflow_app:{name}", args=args, current_app=current)


class PlanSerializer(Linked, PlanBase):
    """A plan. The context has ``counts``: plan to `Counts`."""

    href = serializers.SerializerMethodField()
    rev = serializers.IntegerField(source="revision")
    progress = serializers.SerializerMethodField()
    counts = serializers.SerializerMethodField()
    error = serializers.SerializerMethodField()
    parent = serializers.UUIDField(source="parent_id")  # type: ignore[assignment] # a name that DRF uses, too
    start_at = utc()
    created_at = utc()
    started_at = utc()
    ended_at = utc()
    duration = serializers.SerializerMethodField()
    tags = serializers.JSONField()
    links = serializers.SerializerMethodField()
    poll_after = serializers.SerializerMethodField()

    class Meta:
        model = ExecutionPlan
        fields: tuple[str, ...] = (
            "id", "href", "rev", "action", "label", "state", "result", "progress", "counts", "error", "parent",
            "start_at", "created_at", "started_at", "ended_at", "duration", "priority", "tags", "triggered_by",
            "links", "poll_after",
        )  # fmt: skip
        read_only_fields = fields

    def get_href(self, plan: ExecutionPlan) -> str:
        return self.link("plan", plan.pk)

    def get_links(self, plan: ExecutionPlan) -> dict[str, str]:
        return {"steps": self.link("steps", plan.pk), "explanation": self.link("explanation", plan.pk)}

    def get_counts(self, plan: ExecutionPlan) -> dict[str, int]:
        return self._counts(plan).by_state

    def get_progress(self, plan: ExecutionPlan) -> dict[str, Any]:
        by_state = self._counts(plan).by_state
        total = sum(by_state.values())
        done = sum(by_state.get(state, 0) for state in TERMINAL_STEP_STATES)
        return {"done": done, "total": total, "ratio": round(self._ratio(plan), 4)}

    def get_error(self, plan: Any) -> dict[str, Any] | None:
        found = error_of(plan)
        return None if found is None else {**found, "step": plan.failed_step}

    def get_duration(self, plan: ExecutionPlan) -> float | None:
        return seconds(plan.started_at, plan.ended_at)

    def get_poll_after(self, plan: ExecutionPlan) -> int | None:
        return poll_after(plan.state, plan.created_at)

    def _counts(self, plan: ExecutionPlan) -> Counts:
        counts: dict[Any, Counts] = self.context["counts"]
        return counts.get(plan.pk) or Counts()

    def _ratio(self, plan: ExecutionPlan) -> float:
        counts = self._counts(plan)
        return ratio(counts.done_weight, counts.weight_sum, is_stopped=plan.is_stopped)


class PlanDetailSerializer(PlanSerializer):
    """A plan by itself, with what would cost a query for each plan of a list."""

    eta_seconds = serializers.SerializerMethodField()
    sub_plans = serializers.SerializerMethodField()
    after = serializers.SerializerMethodField()
    locks = serializers.SerializerMethodField()

    class Meta(PlanSerializer.Meta):
        fields = (*PlanSerializer.Meta.fields, "eta_seconds", "sub_plans", "after", "locks")
        read_only_fields = fields

    def get_locks(self, plan: ExecutionPlan) -> list[dict[str, Any]]:
        return [lock_body(lock) for lock in self.context["locks"]]

    def get_sub_plans(self, plan: ExecutionPlan) -> list[dict[str, int]]:
        rows = SubPlans.objects.filter(step__plan=plan).order_by("step_id")[:MOST]
        return [{name: getattr(row, name) for name in SUB_PLAN_COUNTS} for row in rows]

    def get_after(self, plan: ExecutionPlan) -> list[str | None]:
        return [None if row.after_id is None else str(row.after_id) for row in plan.prerequisites.order_by("id")[:MOST]]

    def get_eta_seconds(self, plan: ExecutionPlan) -> int | None:
        left = eta(plan, self._ratio(plan))
        return None if left is None else round(left.total_seconds())


class FindingSerializer(FindingBase):
    """A reason why a plan does not move."""

    code = serializers.CharField()
    message = serializers.CharField()
    remedy = serializers.CharField()
    step = serializers.IntegerField(source="step_number")
    since = utc()


class StepSerializer(Linked, StepBase):
    """A step as lists show it."""

    href = serializers.SerializerMethodField()
    action = serializers.CharField(source="action_name")
    error = serializers.SerializerMethodField()
    ready_at = utc()
    started_at = utc()
    ended_at = utc()
    duration = serializers.SerializerMethodField()

    class Meta:
        model = Step
        fields: tuple[str, ...] = (
            "number", "href", "phase", "action", "state", "queue", "priority", "attempt", "error", "ready_at",
            "started_at", "ended_at", "duration",
        )  # fmt: skip

    def get_href(self, step: Step) -> str:
        return self.link("step", step.plan_id, step.number)

    def get_error(self, step: Any) -> dict[str, Any] | None:
        return error_of(step)

    def get_duration(self, step: Step) -> float | None:
        return seconds(step.started_at, step.ended_at)


class AttemptSerializer(RowBase):
    """One ended attempt."""

    number = serializers.IntegerField()
    ended_as = serializers.CharField()
    worker = serializers.CharField()
    error = serializers.SerializerMethodField()
    started_at = utc()
    ended_at = utc()
    duration = serializers.SerializerMethodField()

    def get_error(self, row: dict[str, Any]) -> dict[str, Any] | None:
        found = {"class": row["error_class"], "message": row["error_message"]}
        return found if any(found.values()) else None

    def get_duration(self, row: dict[str, Any]) -> float | None:
        return seconds(row["started_at"], row["ended_at"])


class ChunkSerializer(RowBase):
    """A piece of output."""

    attempt = serializers.IntegerField()
    text = serializers.CharField()
    created_at = utc()


class StepDetailSerializer(StepSerializer):
    """A step with payloads. The context has ``attempts`` and ``chunks``."""

    input = serializers.SerializerMethodField()
    output = serializers.SerializerMethodField()
    attempts = serializers.SerializerMethodField()
    chunks = serializers.SerializerMethodField()

    class Meta(StepSerializer.Meta):
        fields = (*StepSerializer.Meta.fields, "input", "output", "attempts", "chunks")

    def get_input(self, step: Step) -> Any:
        return presented(step.action.name, step.action.input)

    def get_output(self, step: Step) -> Any:
        return presented(step.action.name, step.action.output)

    def get_attempts(self, step: Step) -> Any:
        return AttemptSerializer(self.context["attempts"], many=True).data

    def get_chunks(self, step: Step) -> Any:
        return ChunkSerializer(self.context["chunks"], many=True).data
