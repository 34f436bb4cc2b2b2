"""What a worker has in hand: steps that it claimed and whose outcome is not in the ledger yet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from dynflow_app import clock
from dynflow_app.actions import registry
from dynflow_app.messages import Claimed, Outcome
from dynflow_app.models import World
from dynflow_app.states import Phase
from dynflow_app.worker.executor import Outputs, execute, is_async
from dynflow_app.worker.inbox import Inbox
from dynflow_app.worker.invocation import Invocation
from dynflow_app.worker.outcomes import handed_back
from dynflow_app.worker.pools import EventLoop, Threads, Work
from dynflow_app.worker.processes.isolated import execute_isolated
from dynflow_app.worker.processes.started import StartedSteps
from dynflow_app.worker.shared_transactions import SharedQueue, SharedWork

STALE = 1.0
"""Seconds after which steps that were claimed ahead, and could not start, are handed back."""


class Hand:
    """Starts steps where they belong, and knows which are under way. Used by the pump's thread only."""

    def __init__(self, world: World, inbox: Inbox, started: StartedSteps, threads: int) -> None:
        self._world = world
        self._io = inbox
        self.started = started
        self._threads = Threads(threads, started, inbox.put)
        self._shared = SharedQueue(self._threads.submit_together)
        self._loop = EventLoop(started, inbox.put, inbox)
        self._in_flight: dict[int, Invocation] = {}
        self._claimed_at = 0.0
        self.recorded = 0
        """How many steps are over."""

    def __len__(self) -> int:
        return len(self._in_flight)

    @property
    def invocations(self) -> Mapping[int, Invocation]:
        """Step to its invocation."""
        return self._in_flight

    @property
    def coroutines(self) -> int:
        """How many coroutines have not ended."""
        return self._loop.running

    def take(self, claimed: Sequence[Claimed], outputs: Mapping[object, Outputs]) -> bool:
        """Start what was claimed; returns whether it was nothing but coroutines."""
        coroutines = []
        for step in claimed:
            if (before := self._in_flight.get(step.step_id)) is not None:  # that it is over has not reached us yet
                self.is_over(step.step_id, before.step.attempt)
            invocation = self._in_flight[step.step_id] = Invocation(step)
            self.started.claimed(step.step_id)
            given = outputs.get(step.plan_id)
            if is_async(step):
                coroutines.append((invocation, given))
            elif (work := self._shared_work(invocation, given)) is not None:
                self._shared.put(work)
            else:
                self._threads.submit(step, self._work(invocation, given))
        if coroutines:
            self._loop.start(coroutines)
        self._shared.start_some()
        self._claimed_at = clock.monotonic()
        return len(coroutines) == len(claimed)

    def is_awaited(self, outcome: Outcome) -> bool:
        """Whether this outcome is not of code that was given up: another attempt of its step may be under way."""
        invocation = self._in_flight.get(outcome.step_id)
        return invocation is not None and invocation.step.attempt == outcome.attempt and not invocation.is_abandoned

    def is_over(self, step_id: int, attempt: int) -> None:
        """The ledger knows what became of this attempt."""
        invocation = self._in_flight.get(step_id)
        if invocation is not None and invocation.step.attempt == attempt:
            del self._in_flight[step_id]
            self.started.recorded(step_id)
            self.recorded += 1

    def shared_transaction_ended(self) -> None:
        """Another may begin."""
        self._shared.one_ended()

    def start_waiting(self) -> float:
        """Start what waits to share a transaction, if it has waited long enough; returns how long to wait at most."""
        return self._shared.start_some()

    def withdraw(self) -> Iterator[Outcome]:
        """Hand back what has not begun."""
        for step in self._threads.withdraw():
            yield handed_back(step)
        for work in self._shared.withdraw():
            yield handed_back(work.step)

    @property
    def is_stale(self) -> bool:
        """Whether steps that were claimed ahead wait too long for a thread."""
        return self._threads.waiting > 0 and self.claimed_for > STALE

    @property
    def claimed_for(self) -> float:
        """Seconds since the last claim."""
        return clock.monotonic() - self._claimed_at

    def lose(self, step_id: int) -> None:
        """The code of this step cannot be ended; another thread takes the place of its own."""
        if not is_async(self._in_flight[step_id].step):
            self._threads.lose_one()

    def stop(self) -> None:
        """Let threads and loop end when they are done."""
        self._threads.stop()
        self._loop.stop()

    def _shared_work(self, invocation: Invocation, outputs: Outputs) -> SharedWork | None:
        """A plan phase, a finalize phase or an atomic step."""
        step = invocation.step
        action_class = registry.known(step.action_name)
        is_atomic = step.phase == Phase.RUN and action_class is not None and action_class.atomic
        if is_atomic or step.phase in (Phase.PLAN, Phase.FINALIZE):
            return SharedWork(step, outputs, invocation, self._world, self._io)
        return None

    def _work(self, invocation: Invocation, outputs: Outputs) -> Work:
        """What a thread has to do for any other step."""
        step = invocation.step
        action_class = registry.known(step.action_name)
        is_isolated = step.phase == Phase.RUN and action_class is not None and action_class.isolated
        return partial(execute_isolated if is_isolated else execute, step, outputs, invocation, self._io)
