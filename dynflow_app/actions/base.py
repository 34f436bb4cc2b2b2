"""`BaseAction`: what users subclass."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any, ClassVar, NoReturn, cast

from dynflow_app.actions import registry
from dynflow_app.actions.context import ActionRecord, PlanContext, PlannedAction, RunContext
from dynflow_app.actions.rate import Rate
from dynflow_app.actions.retry import Retry
from dynflow_app.engine.rescue import combine
from dynflow_app.engine.timing import Timing
from dynflow_app.exceptions import PlanningError, StepTimeoutError, Suspend
from dynflow_app.messages import SelfEvent
from dynflow_app.states import OnConflict, Rescue

HOOKS = ("on_success", "on_failure", "on_stopped", "on_paused")
"""Methods without arguments that workers call when the plan has stopped or paused."""
LONGEST_WAIT = 100 * 365 * 24 * 3600
"""Seconds; beyond, databases have no dates."""


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
    atomic: ClassVar[bool] = False
    """Whether ``run`` shares one transaction with the record of its success, so that its writes to the ledger's
    database happen exactly once. For short steps; not for ``async def run``."""
    isolated: ClassVar[bool] = False
    """Whether ``run`` gets a process of its own, which can be killed when the step must end."""
    retry: ClassVar[Retry | None] = None
    """When a ``run`` that raised is tried again by itself; None: never."""
    rescue_strategy: ClassVar[Any] = Rescue.PAUSE
    """What becomes of the plan when a step of this action failed for good: a `Rescue`, or a method without arguments
    that returns one. A worker calls it; it may look at `input`, `output` and `error`."""
    fail_fast: ClassVar[bool] = False
    """Of an entry action: whether no step of the plan starts any more once one has failed."""
    timeout: ClassVar[timedelta | None] = None
    """Longest time from the first invocation of ``run`` to its end, waiting as suspended included; each retry gets as
    long. Then code that runs is asked to end, after some seconds made to, and the step fails; if the step is suspended,
    `on_timeout` decides."""
    start_timeout: ClassVar[timedelta | None] = None
    """Longest time that a step may wait for a worker; then it fails."""
    concurrency_key: ClassVar[str | None] = None
    """Steps with the same key share a limit. May use the input: ``"cloud {region}"``."""
    concurrency_limit: ClassVar[int | None] = None
    """How many steps with this key may run (or be suspended) at once; None for no limit."""
    rate_limit: ClassVar[Rate | None] = None
    """How many steps with this key may start per time; None for no limit."""
    fairness_key: ClassVar[str | None] = None
    """Of an entry action: plans with the same key share their turns in a queue. May use the input: ``"{tenant}"``."""
    fairness_weight: ClassVar[float] = 1.0
    """Of an entry action: how many turns its plans get for each one of others; above 0, at most 1000."""
    on_conflict: ClassVar[OnConflict] = OnConflict.WAIT
    """What becomes of the plan if something that this action locks is not free when the plan is to start."""
    singleton: ClassVar[bool] = False
    """Of an entry action: whether only one plan of it may be active, that is neither scheduled, paused nor stopped."""
    weight: ClassVar[float] = 1.0
    """Share of its run step in the progress of the plan."""
    finalize_weight: ClassVar[float] = 1.0
    """Share of its finalize step in the progress of the plan."""
    keep_for: ClassVar[timedelta | None] = None
    """Of an entry action: how long its plans are kept once they have stopped; sub-plans are kept with their parents.
    None: ``KEEP_FOR`` decides; ``timedelta.max``: for ever."""
    sensitive: ClassVar[frozenset[str] | set[str]] = frozenset()
    """Keys of input and output whose values are masked wherever they are shown, and encrypted where they are stored if
    ``ENCRYPTION_KEYS`` is set. At any depth."""
    Input: ClassVar[type | None] = None
    """A dataclass, TypedDict or pydantic model that the input has to fit; checked when planned and before it runs."""
    Output: ClassVar[type | None] = None
    """As `Input`, for what ``run`` leaves; checked when it ends."""
    schedule: ClassVar[Timing | None] = None
    """`Every` or `Cron`: when a plan of this action is made by itself. Subclasses do not inherit it."""
    middleware: ClassVar[tuple[Any, ...]] = ()
    """What wraps the phases of this action: see `dynflow_app.actions.middleware`."""

    subscribe_to: ClassVar[type[BaseAction] | None] = None
    """Another class: whenever that is planned, this one is planned beside it, with the same arguments."""

    _context: PlanContext | RunContext | None = None
    _number: int = 0

    def __init_subclass__(cls, **kwargs: Any) -> None:  # whatever other bases accept
        super().__init_subclass__(**kwargs)
        kept: object = cls.keep_for  # users' may be anything
        if kept is not None and not (isinstance(kept, timedelta) and kept >= timedelta()):
            raise ValueError(f"{cls.__name__}.keep_for is {cls.keep_for!r}: give a timedelta, or None for KEEP_FOR.")
        if cls.atomic and (cls.isolated or inspect.iscoroutinefunction(getattr(cls, "run", None))):
            raise ValueError(f"{cls.__name__}: an atomic run() uses a worker's transaction; not isolated, not async.")
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

    def lock(self, resource: object, *, shared: bool = False) -> None:
        """Let the plan start only when it has `resource`, a stored model instance or text, and keep it until it stops:
        for itself, or `shared` with others that do the same. Exclusive wins. Raises `PlanningError`."""
        self._planning("lock").lock(self, resource, shared=shared)

    def link(self, resource: object) -> None:
        """Let the plan be found at `resource`, without keeping others from it. Raises `PlanningError`."""
        self._planning("link").link(resource)

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

    @property
    def is_woken(self) -> bool:
        """Whether a timer or an event woke this step; False for its first try, a retry and a resume."""
        return self._running("is_woken").is_woken

    @property
    def error(self) -> dict[str, Any] | None:
        """In `on_skip` and in a method `rescue_strategy`: the error of the failed step. Otherwise None."""
        return self._running("error").error

    def suspend(
        self, timeout: timedelta | float | None = None, *, wake_after: timedelta | float | None = None
    ) -> NoReturn:
        """End this invocation; the step waits, and holds no thread and no memory meanwhile.

        An event wakes it: ``run(self, event)`` is called with it. So does the time `wake_after` (``run()`` is called
        again) or the end of `timeout` (`on_timeout` is called). Durations are timedeltas or seconds. `output` is kept.
        """
        self._running("suspend")
        raise Suspend(timeout=_seconds(timeout, "timeout"), wake_after=_seconds(wake_after, "wake_after"))

    def check_cancelled(self) -> None:
        """End this invocation if somebody cancelled it or its time is over; call it now and then in a long ``run``."""
        self._running("check_cancelled").check_cancelled()

    def progress(self, done: float, total: float = 1.0) -> None:
        """Say how much of this step is done. Does not block; the last word counts."""
        if not 0 <= done <= total or total <= 0:
            raise ValueError(f"progress({done!r}, {total!r}): give what is done, and a total that is not smaller.")
        self._running("progress").report(done / total)

    def send_event(self, name: str, data: Any = None, *, after: timedelta | float = 0) -> None:
        """Send an event to this step itself, `after` some time; it counts from the end of this invocation, and goes
        with its outcome. To other steps: `dynflow_app.control.send_event`."""
        if not 0 < len(name) <= 100:
            raise ValueError(f"send_event({name!r}): the name is text of 1 to 100 characters.")
        event = SelfEvent(name=name, data=data, after=_seconds(after, "after") or 0.0)
        self._running("send_event").send_to_self(event)

    def unlock(self, resource: object) -> None:
        """Release the plan's lock of `resource` now rather than when it stops; counts once this invocation has ended
        without an error. Does nothing if the plan has no such lock. Raises `PlanningError`."""
        self._running("unlock").unlock(resource)

    def callback_url(self, name: str = "callback", *, expires_in: timedelta | float = timedelta(days=1)) -> str:
        """A signed URL, good for one POST, by which an outside system sends the event `name` to this step.

        Needs the setting ``CALLBACK_URL``. What is posted as JSON becomes the event's data. Raises `PlanningError`.
        """
        return self._running("callback_url").callback_url(name, _seconds(expires_in, "expires_in") or 0.0)

    # --- to be overridden --------------------------------------------------------------------------------------

    def on_timeout(self) -> None:
        """Called in a worker when the time of a suspended step is over. Default: the step fails.

        Return, and the step succeeds; suspend again, and it goes on waiting.
        """
        raise StepTimeoutError(f"{type(self).__name__} waited longer than it was given.")

    def combine_rescue(self, suggestions: list[Rescue]) -> Rescue:
        """Of an entry action: what becomes of the plan, given what each failed action suggests. Runs in a worker if it
        is overridden. Default: what all suggest, otherwise *pause*."""
        return combine(suggestions)

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
        """Whether the class defines ``run``, ``finalize``, ``revert``, ``cancel``, ``on_skip``, or a hook."""
        return callable(getattr(cls, phase, None))

    @classmethod
    def hooks(cls) -> tuple[str, ...]:
        """The hooks that the class defines. A subclass disables an inherited one by setting it to None."""
        return tuple(name for name in HOOKS if cls.has_phase(name))

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


def _seconds(duration: timedelta | float | None, name: str) -> float | None:
    seconds: Any = duration.total_seconds() if isinstance(duration, timedelta) else duration  # users' may be anything
    if seconds is None or (isinstance(seconds, (int, float)) and 0 <= seconds <= LONGEST_WAIT):
        return seconds
    raise ValueError(f"{name}={duration!r}: give a timedelta, or seconds from 0 to {LONGEST_WAIT:,}.")


def bind(action_class: type[BaseAction], number: int, context: PlanContext | RunContext) -> BaseAction:
    """An instance of `action_class` that talks to `context`."""
    action = action_class()
    action._context = context
    action._number = number
    return action
