"""The plan phase: runs users' ``plan`` methods and turns what they asked for into a `Draft`, one plan in memory."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from dynflow_app.actions import registry
from dynflow_app.actions.base import BaseAction, bind
from dynflow_app.actions.context import PlannedAction, refuse_unfinished
from dynflow_app.actions.middleware import amended, chain, entered
from dynflow_app.actions.rate import Rate
from dynflow_app.actions.schemas import check_input
from dynflow_app.conf import settings
from dynflow_app.engine.flow import BlockKind, Flow
from dynflow_app.exceptions import PlanningError
from dynflow_app.ledger.rows import ActionRow, PlanRows, StepRow
from dynflow_app.models import ExecutionPlan, ResourceLock
from dynflow_app.models.resource_lock import resource_key
from dynflow_app.payloads.json import OutputReference, encode_input
from dynflow_app.payloads.sealing import seal
from dynflow_app.planning.limit_keys import fairness_key_of, limit_key_of
from dynflow_app.states import OnConflict, Phase
from dynflow_app.transport import known_queues

MOST_PRIORITY = 32767
"""What a small integer holds, either way."""
_CONFLICTS = (OnConflict.WAIT, OnConflict.SKIP, OnConflict.FAIL)
"""Of two actions that lock the same, the stricter counts."""


_NOTHING: AbstractContextManager[None] = nullcontext()


class _Block:
    """A block of the flow, open inside of ``with``."""

    __slots__ = ("_flow", "_kind")

    def __init__(self, flow: Flow, kind: BlockKind) -> None:
        self._flow = flow
        self._kind = kind

    def __enter__(self) -> None:
        self._flow.open(self._kind)

    def __exit__(self, *_: object) -> None:
        self._flow.close()


class Draft:
    """One plan being made: implements `PlanContext` for the actions in it."""

    def __init__(self, plan: ExecutionPlan, queue: str | None = None) -> None:
        """`queue` is for actions that name none, and that nobody plans who does."""
        self.plan = plan
        self._default_queue = queue
        self.actions: list[ActionRow] = []
        self.steps: list[StepRow] = []
        self.flow = Flow()
        self._run_step: dict[int, int | None] = {}
        self._queues: list[str] = []
        self._failure: Exception | None = None
        self._limit_key: str | None = None
        self._entry_input: dict[str, Any] = {}
        self.limits: dict[str, tuple[int | None, Rate | None]] = {}
        """Limits that steps of this plan share with others."""
        self.locks: dict[str, ResourceLock] = {}
        self.links: set[str] = set()

    def make(self, action_class: type[BaseAction], args: Iterable[Any], kwargs: dict[str, Any]) -> None:
        """Run the plan phase of the entry action. Whatever the user's code raises goes to the caller."""
        self._plan_with_subscribers(action_class, None, args, kwargs)
        if self._failure is not None:  # somebody's plan() swallowed it, but half an action cannot be kept
            raise self._failure
        for step in self.steps:
            step.is_awaited = step.number in self.flow.awaited
        self._share_turns(action_class)

    @property
    def first_steps(self) -> list[StepRow]:
        """The run steps that wait for nothing."""
        return [step for step in self.steps if step.phase is Phase.RUN and step.gate is None]

    def rows(self, *, is_known: bool = False) -> PlanRows:
        """What is to be stored; `is_known` if the plan and its entry action are there already."""
        return PlanRows(
            self.plan,
            self.actions,
            self.steps,
            self.flow.gates,
            list(self.locks.values()),
            sorted(self.links),
            is_known,
        )

    # --- PlanContext -----------------------------------------------------------------------------------------

    def plan_action(
        self, caller: BaseAction, action_class: type[BaseAction], args: Iterable[Any], kwargs: dict[str, Any]
    ) -> PlannedAction:
        if not registry.is_action_class(action_class):
            raise PlanningError(f"plan_action() takes a subclass of BaseAction, not {action_class!r}.")
        return self._handle(self._plan_with_subscribers(action_class, caller, args, kwargs))

    def plan_self(self, action: BaseAction, given: dict[str, Any]) -> PlannedAction:
        name = type(action).__name__
        if action._number in self._run_step:
            raise PlanningError(f"{name} called plan_self() twice; plan another action for a second step.")
        row = self.actions[action._number - 1]
        given = amended(chain(type(action)), action, given)
        stored, consumed = encode_input(given, f"{name}.input", settings.PAYLOAD_LIMIT)
        row.input = seal(check_input(type(action), stored), action.sensitive)
        if action._number == 1:
            self._entry_input = stored
        row.consumes = sorted(consumed)
        self._limit_key = limit_key_of(type(action), row.name, stored)
        awaited = {self._step_referred_to(number, name) for number in row.consumes}
        self._run_step[action._number] = None
        if action.has_phase(Phase.RUN):
            step = self._add_step(action, Phase.RUN, self._queues[-1])
            self._run_step[action._number] = step.number
            step.gate = self.flow.add_step(step.number, awaited)
        if action.has_phase(Phase.FINALIZE):
            self.plan.has_finalize = True
            # One worker runs all finalize steps of a plan, so they share the entry action's queue.
            self._add_step(action, Phase.FINALIZE, self._queues[0])
        return self._handle(action)

    def block(self, kind: str) -> AbstractContextManager[None]:
        return _Block(self.flow, BlockKind(kind))

    def lock(self, action: BaseAction, resource: object, *, shared: bool) -> None:
        key = resource_key(resource)
        lock = self.locks.setdefault(key, ResourceLock(plan=self.plan, resource=key, is_shared=True))
        lock.on_conflict = max(OnConflict(lock.on_conflict), OnConflict(action.on_conflict), key=_CONFLICTS.index)
        lock.is_shared = lock.is_shared and shared
        self.plan.has_locks = True

    def link(self, resource: object) -> None:
        self.links.add(resource_key(resource))

    # --- helpers ---------------------------------------------------------------------------------------------

    def _plan_with_subscribers(
        self, action_class: type[BaseAction], caller: BaseAction | None, args: Iterable[Any], kwargs: dict[str, Any]
    ) -> BaseAction:
        subscribers = registry.subscribers(action_class)
        if not subscribers:
            return self._plan(action_class, caller, args, kwargs)
        with self.block(BlockKind.CONCURRENCE.value):
            action = self._plan(action_class, caller, args, kwargs)
            for subscriber in subscribers:
                self._plan_with_subscribers(subscriber, action, args, kwargs)
        return action

    def _plan(
        self, action_class: type[BaseAction], caller: BaseAction | None, args: Iterable[Any], kwargs: dict[str, Any]
    ) -> BaseAction:
        number = len(self.actions) + 1
        action = bind(action_class, number, self)
        self.actions.append(ActionRow(number, registry.action_name(action_class), caller._number if caller else None))
        self._queues.append(queue_of(action_class, self._queues[-1] if self._queues else self._default_queue))
        if number == 1:
            self.plan.queue, self.plan.fail_fast = self._queues[0], action_class.fail_fast
        if action_class.hooks():
            self.plan.hooks.append(number)
        middleware = chain(action_class)
        try:
            with (
                self.block(BlockKind.CONCURRENCE.value),
                entered(middleware, "plan", action) if middleware else _NOTHING,
            ):
                returned: object = action.plan(*args, **kwargs)  # type: ignore[func-returns-value] # users' may
                refuse_unfinished(returned, f"plan() of {action_class.__name__}")
        except Exception as error:
            self._failure = self._failure or error
            raise
        finally:
            self._queues.pop()
        return action

    def _add_step(self, action: BaseAction, phase: Phase, queue: str) -> StepRow:
        step = StepRow(
            action=self.actions[action._number - 1],
            number=len(self.steps) + 1,
            phase=phase,
            queue=queue,
            priority=self._priority_of(action),
            # The database rolls finalize phases and atomic steps back when their worker vanishes.
            is_idempotent=action.idempotent or action.atomic or phase is Phase.FINALIZE,
            weight=action.weight if phase is Phase.RUN else action.finalize_weight,
        )
        if phase is Phase.RUN:
            step.limit_key = self._limit_key
            if self._limit_key is not None:
                self.limits[self._limit_key] = (action.concurrency_limit, action.rate_limit)
            step.start_timeout = action.start_timeout.total_seconds() if action.start_timeout else None
        self.steps.append(step)
        return step

    def _share_turns(self, action_class: type[BaseAction]) -> None:
        """With whom the plan shares its turns, unless the trigger said so, or it does with its parent."""
        if not self.plan.fairness_key:
            self.plan.fairness_key = fairness_key_of(action_class, self.actions[0].name, self._entry_input) or ""

    def _priority_of(self, action: BaseAction) -> int:
        priority = self.plan.priority + action.priority
        if abs(priority) > MOST_PRIORITY:
            raise PlanningError(
                f"The priorities of the plan ({self.plan.priority}) and of {type(action).__name__} "
                f"({action.priority}) add up to more than {MOST_PRIORITY}."
            )
        return priority

    def _step_referred_to(self, action_number: int, by: str) -> int:
        step = self._run_step.get(action_number)
        if step is None:
            target = self.actions[action_number - 1].class_name if action_number <= len(self.actions) else "?"
            raise PlanningError(
                f"{by} refers to the output of {target} (action {action_number}), which has no run step in this "
                "plan and so will never have an output. Call plan_self() there and define run()."
            )
        return step

    def _handle(self, action: BaseAction) -> PlannedAction:
        return PlannedAction(action._number, registry.action_name(type(action)), OutputReference(action._number))


def queue_of(action_class: type[BaseAction], of_caller: str | None = None) -> str:
    """The queue of steps of this class, planned by an action of the queue `of_caller`. Raises `PlanningError` if
    ``RQ_QUEUES`` does not have it."""
    queue: str = action_class.queue or of_caller or settings.DEFAULT_QUEUE
    known = known_queues()
    if known is not None and queue not in known:
        choice = f"use one of: {', '.join(sorted(known))}" if known else "see manage.py check"
        raise PlanningError(
            f"{action_class.__name__} wants the queue {queue!r}, which RQ_QUEUES does not have for steps. "
            f"Add it there, or {choice}.",
            queue=queue,
        )
    return queue
