"""The plan phase: runs users' ``plan`` methods and turns what they asked for into rows.

A `Draft` is one plan in memory. `store` writes any number of drafts with one bulk insert per table, in the transaction
that is open; nothing else is written, so a plan exists whole or not at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from django.db.models import Model

from dynflow_app.actions import registry
from dynflow_app.actions.base import BaseAction, bind
from dynflow_app.actions.context import PlannedAction, refuse_unfinished
from dynflow_app.actions.middleware import amended, chain, entered
from dynflow_app.actions.rate import Rate
from dynflow_app.actions.schemas import check_input
from dynflow_app.conf import settings
from dynflow_app.engine.flow import BlockKind, Flow
from dynflow_app.exceptions import PlanningError
from dynflow_app.ledger.limiting import declare, limit_key_of
from dynflow_app.messages import EnvelopeKind
from dynflow_app.models import (
    Action,
    Dependency,
    Envelope,
    ExecutionPlan,
    Gate,
    ResourceLink,
    ResourceLock,
    Step,
)
from dynflow_app.models.resource_lock import resource_key
from dynflow_app.sealing import seal
from dynflow_app.serialization import OutputReference, encode_input
from dynflow_app.states import OnConflict, Phase, PlanState
from dynflow_app.transport import known_queues

INSERT_BATCH = 2000
MOST_PRIORITY = 32767
"""What a small integer holds, either way."""
_CONFLICTS = (OnConflict.WAIT, OnConflict.SKIP, OnConflict.FAIL)
"""Of two actions that lock the same, the stricter counts."""


class Draft:
    """One plan being made: implements `PlanContext` for the actions in it."""

    def __init__(self, plan: ExecutionPlan, start_at: datetime | None = None) -> None:
        self.plan = plan
        self.start_at = start_at
        self.actions: list[Action] = []
        self.steps: list[Step] = []
        self.flow = Flow()
        self.gate_of: dict[int, int] = {}
        """Step number to the position of the gate it waits behind."""
        self._run_step: dict[int, int | None] = {}
        self._queues: list[str] = []
        self._failure: Exception | None = None
        self._limit_key: str | None = None
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
        row.consumes = sorted(consumed)
        self._limit_key = limit_key_of(type(action), row.name, stored)
        awaited = {self._step_referred_to(number, name) for number in row.consumes}
        self._run_step[action._number] = None
        if action.has_phase(Phase.RUN):
            step = self._add_step(action, Phase.RUN, self._queues[-1])
            self._run_step[action._number] = step.number
            gate = self.flow.add_step(step.number, awaited)
            if gate is not None:
                self.gate_of[step.number] = gate
        if action.has_phase(Phase.FINALIZE):
            # One worker runs all finalize steps of a plan, so they share the entry action's queue.
            self._add_step(action, Phase.FINALIZE, self._queues[0])
        return self._handle(action)

    @contextmanager
    def block(self, kind: str) -> Iterator[None]:
        self.flow.open(BlockKind(kind))
        try:
            yield
        finally:
            self.flow.close()

    def lock(self, action: BaseAction, resource: object, *, shared: bool) -> None:
        key = resource_key(resource)
        lock = self.locks.setdefault(key, ResourceLock(plan=self.plan, resource=key, is_shared=True))
        lock.on_conflict = max(lock.on_conflict, OnConflict(action.on_conflict), key=_CONFLICTS.index)
        lock.is_shared = lock.is_shared and shared
        self.plan.has_locks = True

    def link(self, resource: object) -> None:
        self.links.add(resource_key(resource))

    # --- helpers ---------------------------------------------------------------------------------------------

    def _plan_with_subscribers(
        self, action_class: type[BaseAction], caller: BaseAction | None, args: Iterable[Any], kwargs: dict[str, Any]
    ) -> BaseAction:
        with self.block(BlockKind.CONCURRENCE.value):
            action = self._plan(action_class, caller, args, kwargs)
            for subscriber in registry.subscribers(action_class):
                self._plan_with_subscribers(subscriber, action, args, kwargs)
        return action

    def _plan(
        self, action_class: type[BaseAction], caller: BaseAction | None, args: Iterable[Any], kwargs: dict[str, Any]
    ) -> BaseAction:
        number = len(self.actions) + 1
        action = bind(action_class, number, self)
        self.actions.append(
            Action(
                plan=self.plan,
                number=number,
                name=registry.action_name(action_class),
                caller_number=caller._number if caller else None,
            )
        )
        self._queues.append(self._queue_of(action_class))
        if number == 1:
            self.plan.queue, self.plan.fail_fast = self._queues[0], action_class.fail_fast
            self.plan.singleton = registry.action_name(action_class) if action_class.singleton else None
        if action_class.hooks():
            self.plan.hooks.append(number)
        try:
            with self.block(BlockKind.CONCURRENCE.value), entered(chain(action_class), "plan", action):
                returned: object = action.plan(*args, **kwargs)  # type: ignore[func-returns-value] # users' may
                refuse_unfinished(returned, f"plan() of {action_class.__name__}")
        except Exception as error:
            self._failure = self._failure or error
            raise
        finally:
            self._queues.pop()
        return action

    def _queue_of(self, action_class: type[BaseAction]) -> str:
        queue = action_class.queue or (self._queues[-1] if self._queues else settings.DEFAULT_QUEUE)
        known = known_queues()
        if known is not None and queue not in known:
            choice = f"use one of: {', '.join(sorted(known))}" if known else "see manage.py check"
            raise PlanningError(
                f"{action_class.__name__} wants the queue {queue!r}, which RQ_QUEUES does not have for steps. "
                f"Add it there, or {choice}.",
                queue=queue,
            )
        return queue

    def _add_step(self, action: BaseAction, phase: Phase, queue: str) -> Step:
        step = Step(
            plan=self.plan,
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


def store(drafts: list[Draft]) -> None:
    """Write plans with all that belongs to them, and tell the orchestrator's inbox. In the caller's transaction."""
    for draft in drafts:
        draft.plan.state = PlanState.PLANNED
    _insert(ExecutionPlan, [draft.plan for draft in drafts])
    _insert(Action, [action for draft in drafts for action in draft.actions])
    gates = [_gates(draft) for draft in drafts]
    _insert(Gate, [gate for of_plan in gates for gate in of_plan])
    for draft, of_plan in zip(drafts, gates, strict=True):
        for number, position in draft.gate_of.items():
            draft.steps[number - 1].gate = of_plan[position]
    _insert(Step, [step for draft in drafts for step in draft.steps])
    _insert(
        Dependency,
        [d for draft, of_plan in zip(drafts, gates, strict=True) for d in _dependencies(draft, of_plan)],
    )
    _insert(ResourceLock, [lock for draft in drafts for lock in draft.locks.values()])
    links = [(draft.plan, key) for draft in drafts for key in sorted(draft.links)]
    _insert(ResourceLink, [ResourceLink(plan=plan, resource=key) for plan, key in links])
    _insert(Envelope, [_envelope(draft) for draft in drafts])
    limits = {key: limit for draft in drafts for key, limit in draft.limits.items()}
    if limits:
        declare([(key, most, rate) for key, (most, rate) in limits.items()])


def _envelope(draft: Draft) -> Envelope:
    envelope = Envelope(kind=EnvelopeKind.PLANNED.value, plan=draft.plan)
    if draft.start_at is not None:
        envelope.due_at = draft.start_at
    return envelope


def _gates(draft: Draft) -> list[Gate]:
    awaited = {position for spec in draft.flow.gates for position in spec.gates}
    return [
        Gate(plan=draft.plan, waits_for=len(spec.steps) + len(spec.gates), is_awaited=position in awaited)
        for position, spec in enumerate(draft.flow.gates)
    ]


def _dependencies(draft: Draft, gates: list[Gate]) -> Iterator[Dependency]:
    for gate, spec in zip(gates, draft.flow.gates, strict=True):
        for number in spec.steps:
            yield Dependency(gate=gate, step=draft.steps[number - 1])
        for position in spec.gates:
            yield Dependency(gate=gate, after_gate=gates[position])


def _insert(model: type[Model], rows: list[Any]) -> None:  # rows of `model`
    if rows:
        model._default_manager.bulk_create(rows, batch_size=INSERT_BATCH)
