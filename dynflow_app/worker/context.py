"""What an action sees while it runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from dynflow_app.actions.context import ActionRecord
from dynflow_app.ledger.errors import bounded
from dynflow_app.messages import Claimed
from dynflow_app.models import Action


class StepContext:
    """Implements `RunContext` for one attempt of one step."""

    __slots__ = ("_log", "_step", "attempt", "input", "output", "resolved_input")

    def __init__(self, step: Claimed, resolved: dict[str, Any], log: Callable[[Claimed, str], None]) -> None:
        self._step = step
        self._log = log
        self.attempt = step.attempt
        self.input = resolved
        self.resolved_input = json.dumps(resolved) if step.consumes else None  # before user code can change it
        self.output: dict[str, Any] = {}

    @property
    def plan_id(self) -> str:
        """The plan's key, as text."""
        return str(self._step.plan_id)

    @property
    def step_key(self) -> str:
        """The same in all attempts of this step, different for any other step."""
        return f"{self._step.plan_id}-{self._step.number}"

    def log(self, text: str) -> None:
        """Append an output chunk; written to the ledger within moments. Raises TypeError for anything but text."""
        if not isinstance(text, str):  # here it fails this step; at the ledger it would fail all steps around it
            raise TypeError(f"log() takes text, not {type(text).__name__}: write self.log(str(value)).")
        self._log(self._step, bounded(text))

    def planned_actions(self, number: int, name: str | None) -> Iterator[ActionRecord]:
        """What the ledger has of the actions that action `number` planned."""
        rows = Action.objects.filter(plan_id=self._step.plan_id, caller_number=number).order_by("number")
        if name is not None:
            rows = rows.filter(name=name)
        for action in rows.prefetch_related("steps"):
            run = next((step for step in action.steps.all() if step.phase == "run"), None)
            yield ActionRecord(
                number=action.number,
                name=action.name,
                input=action.input,
                output=action.output,
                state=run.state if run else None,
                error=run.error if run else None,
            )
