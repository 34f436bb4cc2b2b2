"""Stand-ins for the engine: contexts that record, and a plan that is driven by hand."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from django.utils import timezone

from dynflow_app.actions.base import BaseAction, bind
from dynflow_app.actions.context import ActionRecord
from dynflow_app.models import Action, ExecutionPlan
from dynflow_app.states import Phase, PlanResult, PlanState, StepState
from project.rex.actions import RunOnHost, RunOnHosts

Call = tuple[type[BaseAction], dict[str, Any]]


class RecordingPlan:
    """A plan phase that notes what is planned."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def plan_action(self, _caller: BaseAction, action: type[BaseAction], _args: Any, kwargs: Any) -> None:
        """Note an action."""
        self.calls.append((action, kwargs))

    def plan_self(self, action: BaseAction, given: dict[str, Any]) -> None:
        """Note the action itself."""
        self.calls.append((type(action), given))

    def block(self, _kind: str) -> contextlib.AbstractContextManager[None]:
        """Nothing is ordered."""
        return contextlib.nullcontext()


@dataclass
class RecordingRun:
    """A step that notes what is logged."""

    input: dict[str, Any]
    plan_id: str = "0192f0c1-2345-7abc-8def-0123456789ab"
    records: list[ActionRecord] = field(default_factory=list)
    output: dict[str, Any] = field(default_factory=dict)
    chunks: list[str] = field(default_factory=list)
    attempt: int = 1
    step_key: str = "key"

    def log(self, text: str) -> None:
        """Note a chunk."""
        self.chunks.append(text)

    def planned_actions(self, _number: int, name: str | None) -> Iterator[ActionRecord]:
        """Return what the test put there."""
        return (record for record in self.records if record.name.endswith(name or ""))


class HandDrivenPlan:
    """Drives a stored plan from look to look of a follower, whose ``sleep`` it is.

    The first sleep runs every host but those of ``dying``, whose steps end in error so that the
    plan pauses; the next one after they were skipped runs finalize. Time passes with each sleep.
    """

    def __init__(self, dying: Iterable[str] = (), finalize_error: str = "") -> None:
        self.dying, self.finalize_error = frozenset(dying), finalize_error
        self.now = 0.0
        self.plan: ExecutionPlan | None = None

    def clock(self) -> float:
        """Return the seconds slept so far."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let the engine do its next bit of work."""
        self.now += seconds
        plan = self.plan = ExecutionPlan.objects.get()
        if plan.state == PlanState.PLANNED:
            self._run_hosts(plan)
        elif plan.state == PlanState.RUNNING:
            self._finalize(plan)

    def _run_hosts(self, plan: ExecutionPlan) -> None:
        lost = False
        for action in plan.actions.filter(name__endswith=RunOnHost.__name__):
            dies = action.input["host"]["name"] in self.dying
            lost = lost or dies
            if dies:
                self._end(action, Phase.RUN, StepState.ERROR, {"message": "its worker vanished"})
            else:
                self._run(action)
        self._move(plan, PlanState.PAUSED if lost else PlanState.RUNNING)

    def _run(self, action: Action) -> None:
        context = RecordingRun(action.input)
        asyncio.run(bind(RunOnHost, action.number, context).run())  # type: ignore[attr-defined]
        Action.objects.filter(pk=action.pk).update(output=context.output)
        self._end(action, Phase.RUN, StepState.SUCCESS)

    def _finalize(self, plan: ExecutionPlan) -> None:
        action = plan.actions.get(name__endswith=RunOnHosts.__name__)
        if self.finalize_error:
            self._end(action, Phase.FINALIZE, StepState.ERROR, {"message": self.finalize_error})
            self._move(plan, PlanState.PAUSED)
            return
        context = RecordingRun(action.input, str(plan.pk), list(_records(plan)))
        bind(RunOnHosts, action.number, context).finalize()  # type: ignore[attr-defined]
        self._end(action, Phase.FINALIZE, StepState.SUCCESS)
        self._move(plan, PlanState.STOPPED, result=PlanResult.SUCCESS, ended_at=timezone.now())

    def _end(self, action: Action, phase: str, state: str, error: Any = None) -> None:
        action.steps.filter(phase=phase).update(state=state, error=error)

    def _move(self, plan: ExecutionPlan, state: str, **fields: Any) -> None:
        ExecutionPlan.objects.filter(pk=plan.pk).update(state=state, active_steps=0, **fields)


def _records(plan: ExecutionPlan) -> Iterator[ActionRecord]:
    for action in plan.actions.filter(name__endswith=RunOnHost.__name__).order_by("number"):
        step = action.steps.get()
        yield ActionRecord(action.number, action.name, action.input, action.output or {}, step.state, step.error)
