"""What an action may ask of the engine in each phase. Planner and worker supply the implementations."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from dynflow_app.exceptions import PlanningError
from dynflow_app.messages import SelfEvent
from dynflow_app.payloads.json import OutputReference

if TYPE_CHECKING:
    from dynflow_app.actions.base import BaseAction
    from dynflow_app.actions.sub_plans import SubPlanCounts, SubPlanRecord, SubPlansAction


def refuse_unfinished(returned: object, what: str) -> None:
    """Raise `PlanningError` if calling user code gave a coroutine or generator: its body has not run."""
    if inspect.iscoroutine(returned) or inspect.isgenerator(returned):
        returned.close()
    elif not inspect.isasyncgen(returned):
        return
    kind = type(returned).__name__
    raise PlanningError(f"{what} returned a {kind}, so its body never ran. Only run() may be async; none may yield.")


@dataclass(frozen=True, slots=True)
class PlannedAction:
    """What `plan_action` and `plan_self` return: the place of an action in the plan being made."""

    number: int
    name: str
    output: OutputReference
    """Placeholder for what its ``run`` will put into its output."""


@dataclass(frozen=True, slots=True)
class ActionRecord:
    """An action of the plan as the ledger has it."""

    number: int
    name: str
    input: dict[str, Any]
    output: dict[str, Any]
    state: str | None
    """State of its run step; None if it has none."""
    error: dict[str, Any] | None


class PlanContext(Protocol):
    """While planning."""

    def plan_action(
        self, caller: BaseAction, action_class: type[BaseAction], args: Iterable[Any], kwargs: dict[str, Any]
    ) -> PlannedAction:
        """Plan another action at the current place of the flow."""

    def plan_self(self, action: BaseAction, given: dict[str, Any]) -> PlannedAction:
        """Place the steps of `action` itself at the current place of the flow."""

    def block(self, kind: str) -> AbstractContextManager[None]:
        """A nested sequence or concurrence."""

    def lock(self, action: BaseAction, resource: object, *, shared: bool) -> None:
        """Let the plan start only when it has `resource`."""

    def link(self, resource: object) -> None:
        """Relate the plan to `resource`."""


class RunContext(Protocol):
    """While a step runs."""

    input: dict[str, Any]
    output: dict[str, Any]
    attempt: int
    error: dict[str, Any] | None
    is_woken: bool

    @property
    def plan_id(self) -> str:
        """Key of the plan."""

    @property
    def step_key(self) -> str:
        """Stable key of the step."""

    def log(self, text: str) -> None:
        """Append an output chunk."""

    def planned_actions(self, number: int, name: str | None) -> Iterator[ActionRecord]:
        """The actions that action `number` planned, of class `name` or of any."""

    def check_cancelled(self) -> None:
        """Raise what ends this invocation, if the step was told to end."""

    def report(self, progress: float) -> None:
        """Say how much of the step is done, from 0 to 1."""

    def send_to_self(self, event: SelfEvent) -> None:
        """Send an event to this step, with the outcome of this invocation."""

    def unlock(self, resource: object) -> None:
        """Release the plan's lock of `resource` with the outcome of this invocation."""

    def callback_url(self, name: str, expires_in: float) -> str:
        """A URL by which an outside system sends the event `name` to this step."""

    def make_sub_plans(self, action: SubPlansAction) -> tuple[int | None, bool]:
        """Make the sub-plans that may be made now. Returns below which number of moving ones the step has to go on,
        None if all have come to rest; and whether the step was told to end."""

    def cancel_sub_plans(self) -> None:
        """Cancel those that have not ended."""

    def sub_plan_counts(self, number: int) -> SubPlanCounts:
        """How far the sub-plans of action `number` are."""

    def sub_plan_records(self, number: int) -> Iterator[SubPlanRecord]:
        """The sub-plans of action `number`, by position."""
