"""`SubPlansAction`: one step that makes many plans, and ends when they have."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from dynflow_app.actions import registry
from dynflow_app.actions.base import BaseAction
from dynflow_app.exceptions import Cancel, PlanningError, StepTimeoutError, SubPlansFailedError, Suspend
from dynflow_app.messages import Event


@dataclass(frozen=True, slots=True)
class SubPlan:
    """What `SubPlansAction.sub_plan` returns: a plan to be made."""

    action_class: type[BaseAction]
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    label: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SubPlanRecord:
    """A sub-plan as the ledger has it."""

    position: int
    """From 0, in the order of `SubPlansAction.sub_plans`."""
    plan_id: str
    state: str
    result: str
    input: dict[str, Any]
    """Of its entry action, as is `output`."""
    output: dict[str, Any]
    error: dict[str, Any] | None
    """Of the first step that failed, or of planning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SubPlanCounts:
    """How many sub-plans there are, by how far they are."""

    total: int
    made: int
    success: int
    warning: int
    error: int
    cancelled: int
    paused: int
    moving: int
    """Made, and neither stopped nor paused."""

    @property
    def failed(self) -> int:
        """Those that stopped otherwise than well, wait for a person, or were never made."""
        return self.total - self.success - self.warning - self.moving


class SubPlansAction(BaseAction, ABC):
    """Define `total` and `sub_plans`. Sub-plans are made in batches; meanwhile, and until the last of them has ended,
    the step is suspended: no thread waits. Then it succeeds, or fails if not all of them went well.

    When its plan is resumed, so are those of its sub-plans that are paused; those that stopped with an error, in
    planning or later, are made anew, and those that were never made are made. If its plan is cancelled, its sub-plans
    are, and it waits for them.
    """

    batch_size: ClassVar[int] = 100
    """How many sub-plans are made in one transaction; at least 1."""
    concurrency_limit: int | None = None  # type: ignore[misc] # may be a property, which looks at the input
    """How many sub-plans move at once: the next ones are made when others have ended, or paused. None: all."""
    idempotent = True  # what was made is known to the ledger

    def __init_subclass__(cls, **kwargs: Any) -> None:  # whatever other bases accept
        if cls.batch_size < 1:
            raise ValueError(f"{cls.__name__}.batch_size is at least 1.")
        if cls.concurrency_key is not None or cls.rate_limit is not None:
            raise ValueError(f"{cls.__name__}: limit the actions of its sub-plans by key or rate, not this one.")
        super().__init_subclass__(**kwargs)

    @abstractmethod
    def total(self) -> int:
        """How many sub-plans there will be. Asked once, in a worker."""

    @abstractmethod
    def sub_plans(self, start: int, stop: int) -> Iterable[SubPlan]:
        """The sub-plans at the positions from `start` up to, and without, `stop`: ``yield self.sub_plan(...)``.

        May be asked again for positions whose plans failed.
        """

    def sub_plan(self, action_class: type[BaseAction], *args: Any, label: str = "", **kwargs: Any) -> SubPlan:
        """A plan of `action_class` with these arguments; its ``plan()`` runs in the worker that makes it."""
        if not registry.is_action_class(action_class):
            raise PlanningError(f"sub_plan() takes a subclass of BaseAction, not {action_class!r}.")
        if action_class.singleton:
            raise PlanningError(f"{action_class.__name__} is a singleton, so it cannot be a sub-plan beside others.")
        return SubPlan(action_class, args, kwargs, label)

    def sub_plan_counts(self) -> SubPlanCounts:
        """How far the sub-plans are. A few queries, however many there are."""
        return self._running("sub_plan_counts").sub_plan_counts(self._number)

    def sub_plan_records(self) -> Iterator[SubPlanRecord]:
        """All sub-plans in the order of their positions, read in portions; for ``finalize``."""
        return self._running("sub_plan_records").sub_plan_records(self._number)

    def run(self, event: Event | None = None) -> None:
        """Make what may be made now; wait, or end."""
        try:
            wakes_below, is_stopped = self._running("run").make_sub_plans(self)
        except StepTimeoutError:  # its time was over while it made some
            self.on_timeout()
            raise
        if wakes_below is not None:
            raise Suspend(wakes_below=wakes_below)
        counts = self.sub_plan_counts()
        if is_stopped:
            raise Cancel("its sub-plans have ended")
        self.output.update(
            total=counts.total,
            success=counts.success + counts.warning,
            failed=counts.failed,
            pending=counts.total - counts.made,
        )
        if counts.failed:
            raise SubPlansFailedError(f"{counts.failed} of {counts.total} sub-plans failed.")

    def on_timeout(self) -> None:
        """Their time is over: those that have not ended are cancelled, and the step fails."""
        self._running("on_timeout").cancel_sub_plans()
        counts = self.sub_plan_counts()
        raise StepTimeoutError(
            f"{type(self).__name__} waited longer than it was given: {counts.moving} of {counts.total} sub-plans had "
            f"not ended and are cancelled, {counts.total - counts.made} were not made."
        )
