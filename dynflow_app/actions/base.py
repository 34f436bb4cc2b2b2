"""`BaseAction`: what users subclass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any, ClassVar, cast

from dynflow_app.actions import registry
from dynflow_app.actions.context import ActionRecord, PlanContext, PlannedAction, RunContext
from dynflow_app.exceptions import PlanningError


class BaseAction:
    """A unit of work in three phases, each optional.

    ``plan(**arguments)`` runs when the action is triggered, in the caller's transaction; it composes other actions
    with `plan_action` and places its own steps with `plan_self`. Without one, the arguments become the input.

    ``run()`` runs in a worker, outside any transaction; define it as ``async def`` if it waits for the network.
    Reads `input`, writes `output`, both JSON. A class without it has no run step.

    ``finalize()`` runs after every run step of the plan ended well, all of them in one transaction.
    """

    queue: ClassVar[str | None] = None
    """Where its steps run; None: the queue of the action that plans it, or ``DEFAULT_QUEUE``."""
    priority: ClassVar[int] = 0
    """Higher first within a queue, from -32768 to 32767."""
    idempotent: ClassVar[bool] = False
    """Whether ``run`` may start again when the process that ran it vanished. Otherwise the plan pauses and asks."""

    subscribe_to: ClassVar[type[BaseAction] | None] = None
    """Another class: whenever that is planned, this one is planned beside it, with the same arguments."""

    _context: PlanContext | RunContext | None = None
    _number: int = 0

    def __init_subclass__(cls, **kwargs: Any) -> None:  # whatever other bases accept
        super().__init_subclass__(**kwargs)
        registry.register(cls)

    def plan(self, *args: Any, **kwargs: Any) -> None:  # each subclass names its own arguments
        """Compose the plan. In the caller's transaction; may use the ORM. Default: the arguments are the input."""
        if args:
            raise PlanningError(f"{type(self).__name__} takes named arguments only, or define its plan().")
        self.plan_self(**kwargs)

    # --- in plan() -------------------------------------------------------------------------------------------

    def plan_action(self, action_class: type[BaseAction], *args: Any, **kwargs: Any) -> PlannedAction:
        """Plan another action here; its ``plan`` gets the arguments. Use ``.output["key"]`` of what is returned as
        input of further actions. Only in ``plan()``. Raises `PlanningError`."""
        return self._planning("plan_action").plan_action(self, action_class, args, kwargs)

    def plan_self(self, **given: Any) -> PlannedAction:
        """Place this action's own run and finalize steps here, with `given` as input. Once, and only in ``plan()``.

        Raises `PlanningError` and `NotSerializableError`.
        """
        return self._planning("plan_self").plan_self(self, given)

    def sequence(self) -> AbstractContextManager[None]:
        """``with self.sequence():`` what is planned inside runs one after the other."""
        return self._planning("sequence").block("sequence")

    def concurrence(self) -> AbstractContextManager[None]:
        """``with self.concurrence():`` what is planned inside runs side by side (as does the body of ``plan``)."""
        return self._planning("concurrence").block("concurrence")

    # --- in run() and finalize() -----------------------------------------------------------------------------

    @property
    def input(self) -> dict[str, Any]:
        """What was planned, with references to other outputs resolved."""
        return self._running("input").input

    @property
    def output(self) -> dict[str, Any]:
        """What this action produced so far; must be JSON when the phase ends."""
        return self._running("output").output

    @output.setter
    def output(self, value: object) -> None:
        raise PlanningError('The output is filled, not replaced: self.output["key"] = ... or self.output.update(...).')

    @property
    def attempt(self) -> int:
        """Number of this attempt of the step, from 1; it grows also when a step was handed back unstarted."""
        return self._running("attempt").attempt

    @property
    def plan_id(self) -> str:
        """Key of the plan that this step belongs to."""
        return self._running("plan_id").plan_id

    @property
    def step_key(self) -> str:
        """A stable key of this step, the same in all its attempts: hand it to services that take idempotency keys."""
        return self._running("step_key").step_key

    def log(self, text: str) -> None:
        """Append to the action's output chunks, visible while the step runs. Does not block."""
        self._running("log").log(text)

    def planned_actions(self, action_class: type[BaseAction] | None = None) -> Iterator[ActionRecord]:
        """The actions that this one planned, as the ledger has them; of `action_class` or of any. One query."""
        name = registry.action_name(action_class) if action_class else None
        return self._running("planned_actions").planned_actions(self._number, name)

    # --- plumbing --------------------------------------------------------------------------------------------

    @classmethod
    def has_phase(cls, phase: str) -> bool:
        """Whether the class defines ``run`` or ``finalize``."""
        return callable(getattr(cls, phase, None))

    def _planning(self, verb: str) -> PlanContext:
        self._require_engine(verb)
        if not hasattr(self._context, "plan_action"):
            raise PlanningError(f"{verb} belongs into plan(), not into run() or finalize().")
        return cast("PlanContext", self._context)

    def _require_engine(self, name: str) -> None:
        if self._context is None:
            raise PlanningError(
                f"{name} needs the engine: actions are not called, but triggered or planned by others. "
                "Use dynflow_app.triggering.trigger()."
            )

    def _running(self, name: str) -> RunContext:
        self._require_engine(name)
        if hasattr(self._context, "plan_action"):
            raise PlanningError(
                f"{name} exists only in run() and finalize(). In plan(), pass values to plan_self() and use the "
                "output of what plan_action() returns."
            )
        return cast("RunContext", self._context)


def bind(action_class: type[BaseAction], number: int, context: PlanContext | RunContext) -> BaseAction:
    """An instance of `action_class` that talks to `context`."""
    action = action_class()
    action._context = context
    action._number = number
    return action
