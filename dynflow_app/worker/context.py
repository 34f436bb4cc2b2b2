"""What an action sees while it runs."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar

from dynflow_app.actions.base import BaseAction
from dynflow_app.actions.context import ActionRecord
from dynflow_app.actions.schemas import check_input, check_output
from dynflow_app.actions.sub_plans import SubPlanCounts, SubPlanRecord, SubPlansAction
from dynflow_app.callbacks import tokens
from dynflow_app.conf import settings
from dynflow_app.exceptions import PlanningError
from dynflow_app.messages import Claimed, SelfEvent
from dynflow_app.models import Action, Step
from dynflow_app.models.resource_lock import resource_key
from dynflow_app.payloads.json import check_json, resolve
from dynflow_app.payloads.sealing import scrub, seal, secrets_in, unseal
from dynflow_app.states import Cause, Phase
from dynflow_app.worker import sub_plans
from dynflow_app.worker.invocation import Invocation
from dynflow_app.worker.outage import outlasting
from dynflow_app.worker.step_log import StepLog

T = TypeVar("T")


class StepIO(Protocol):
    """Where what a step says while it runs goes; callable from any thread."""

    def log(self, step: Claimed, text: str) -> None:
        """An output chunk."""

    def report(self, step: Claimed, progress: float) -> None:
        """Progress, from 0 to 1."""


class StepContext:
    """Implements `RunContext` for one attempt of one step. Secrets are open in here, sealed in what it returns."""

    def __init__(
        self,
        action_class: type[BaseAction],
        step: Claimed,
        outputs: dict[int, Any] | None,
        invocation: Invocation,
        io: StepIO,
    ) -> None:
        self._class = action_class
        self._step = step
        self._io = io
        self._invocation = invocation
        self._log, self._log_lock = StepLog(settings.LOG_LIMIT), threading.Lock()
        stored = seal(resolve(step.input, outputs or {}) if step.consumes else step.input, action_class.sensitive)
        self.resolved_input = json.dumps(stored) if step.consumes else None  # before user code can change it
        self.secrets = secrets_in(stored) | secrets_in(step.output)
        self.attempt = step.attempt
        self.input = check_input(action_class, unseal(stored)) if step.phase == Phase.RUN else unseal(stored)
        self.output: dict[str, Any] = unseal(step.output)
        self._before = json.dumps(step.output) if step.output else "{}"
        self.error: dict[str, Any] | None = None
        self.is_woken = step.cause in (Cause.WAKE, Cause.EVENT)
        self.sent: list[SelfEvent] = []
        self.unlocked: list[str] = []
        self.progress: float | None = None

    def stored_output(self, *, is_final: bool) -> str | None:
        """The output as JSON to be stored; None if it did not change. Raises what its checks raise."""
        if self._before == "{}" and self.output == {} and self._class.Output is None:
            return None  # as of most steps
        check_json(self.output, f"{self._class.__name__}.output", settings.PAYLOAD_LIMIT)
        output = check_output(self._class, self.output) if is_final else self.output
        sealed = seal(output, self._class.sensitive)
        self.secrets |= secrets_in(sealed)
        stored = json.dumps(sealed)
        return None if stored == self._before else stored

    @property
    def plan_id(self) -> str:
        """The plan's key, as text."""
        return str(self._step.plan_id)

    @property
    def step_key(self) -> str:
        """The same in all attempts of this step, different for any other step."""
        return f"{self._step.plan_id}-{self._step.number}"

    def log(self, text: str) -> None:
        """Append an output chunk; written to the ledger within moments. Beyond ``LOG_LIMIT`` characters only the last
        ones of an invocation are kept, and written at its end. Raises TypeError for anything but text."""
        if not isinstance(text, str):  # here it fails this step; at the ledger it would fail all steps around it
            raise TypeError(f"log() takes text, not {type(text).__name__}: write self.log(str(value)).")
        text = scrub(text, self.secrets)
        with self._log_lock:  # user code may log from threads of its own
            if text := self._log.take(text):
                self._io.log(self._step, text)

    def end_log(self) -> None:
        """Append what was held back; called when the code has ended."""
        with self._log_lock:
            if rest := self._log.rest():
                self._io.log(self._step, rest)

    def check_cancelled(self) -> None:
        """Raise what ends this invocation, if the step was told to end."""
        self._invocation.check()

    def report(self, progress: float) -> None:
        """Written to the ledger within moments."""
        self.progress = progress
        self._io.report(self._step, progress)

    def send_to_self(self, event: SelfEvent) -> None:
        """Kept until this invocation ends."""
        check_json(event.data, f"the data of event {event.name!r}", settings.PAYLOAD_LIMIT)
        self.sent.append(event)

    def unlock(self, resource: object) -> None:
        """Kept until this invocation ends."""
        self.unlocked.append(resource_key(resource))

    def callback_url(self, name: str, expires_in: float) -> str:
        """Signed, and good for one POST. Raises `PlanningError` outside of run()."""
        if self._step.phase != Phase.RUN:
            raise PlanningError("callback_url() belongs into run(): only that can suspend and get the event.")
        return tokens.callback_url(self._step.step_id, name, expires_in)

    def make_sub_plans(self, action: SubPlansAction) -> tuple[int | None, bool]:
        """Make what may be made now."""
        return sub_plans.Spawner(self._step, action, self.check_cancelled).run()

    def cancel_sub_plans(self) -> None:
        """Those of the step that runs."""
        self._outlasting(lambda: sub_plans.cancel_children(self._step))

    def sub_plan_counts(self, number: int) -> SubPlanCounts:
        """How far the sub-plans of action `number` are."""
        return self._outlasting(lambda: sub_plans.counts(self._run_step(number)))

    def sub_plan_records(self, number: int) -> Iterator[SubPlanRecord]:
        """The sub-plans of action `number`, by position."""
        step_id = self._outlasting(lambda: self._run_step(number))
        return sub_plans.records(step_id, self.check_cancelled)

    def _run_step(self, number: int) -> int:
        if self._step.phase == Phase.RUN and self._step.action_number == number:
            return self._step.step_id
        return Step.objects.values_list("pk", flat=True).get(
            plan=self._step.plan_id, action__number=number, phase=Phase.RUN
        )

    def _outlasting(self, call: Callable[[], T]) -> T:
        return outlasting(call, self.check_cancelled)

    def planned_actions(self, number: int, name: str | None) -> Iterator[ActionRecord]:
        """What the ledger has of the actions that action `number` planned."""
        rows = Action.objects.filter(plan_id=self._step.plan_id, caller_number=number).order_by("number")
        if name is not None:
            rows = rows.filter(name=name)
        for action in self._outlasting(lambda: list(rows.prefetch_related("steps"))):
            run = next((step for step in action.steps.all() if step.phase == "run"), None)
            yield ActionRecord(
                number=action.number,
                name=action.name,
                input=unseal(action.input),
                output=unseal(action.output),
                state=run.state if run else None,
                error=run.error if run else None,
            )
