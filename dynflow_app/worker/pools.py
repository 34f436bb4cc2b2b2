"""Where user code runs inside a worker: a pool of threads for blocking steps, an event loop for coroutines."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from asgiref.sync import sync_to_async
from django.db import close_old_connections, connections

from dynflow_app import clock
from dynflow_app.messages import Claimed
from dynflow_app.worker.context import StepIO
from dynflow_app.worker.executor import Outputs, execute_async
from dynflow_app.worker.invocation import Invocation
from dynflow_app.worker.outcomes import failure
from dynflow_app.worker.processes.started import StartedSteps
from dynflow_app.worker.shared_transactions import SharedWork

_log = logging.getLogger("dynflow_app.worker")

STOP_TIMEOUT = 1.0
"""Seconds that a loop may take to stop; a coroutine that blocks it is left behind."""

Deliver = Callable[[Any], None]
"""Takes what a step produced: an outcome, or the end of steps that share a transaction with the ledger."""
Work = Callable[[], Any] | SharedWork
_Task = tuple[Claimed, Work]
_Group = list[_Task]
"""Tasks that one thread takes together, to share a transaction."""


class Threads:
    """A fixed number of threads, started with the first step, that take steps from one queue."""

    def __init__(self, count: int, started: StartedSteps, deliver: Deliver) -> None:
        self.count = count
        self._started = started
        self._deliver = deliver
        self._tasks: queue.SimpleQueue[_Group | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []

    @property
    def waiting(self) -> int:
        """How many steps no thread has taken yet."""
        return self._tasks.qsize()

    def submit(self, step: Claimed, work: Work) -> None:
        """Run `work` for a step as soon as a thread is free, and deliver what it returns."""
        self._put([(step, work)])

    def submit_together(self, works: Sequence[SharedWork]) -> None:
        """Run these in one transaction, as far as that stays short; what is left of them is submitted again."""
        self._put([(work.step, work) for work in works])

    def _put(self, group: _Group) -> None:
        self._tasks.put(group)
        if len(self._threads) < self.count and self._tasks.qsize() > 0:
            thread = threading.Thread(target=self._serve, name=f"dynflow-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def withdraw(self) -> list[Claimed]:
        """Take back the steps that no thread has begun."""
        steps: list[Claimed] = []
        while True:
            try:
                group = self._tasks.get_nowait()
            except queue.Empty:
                return steps
            steps += [step for step, _ in group or ()]

    def lose_one(self) -> None:
        """One thread is stuck for good; let another take its place."""
        self._threads.pop()

    def stop(self) -> None:
        """Let the threads end when they are done; does not wait for them."""
        for _ in self._threads:
            self._tasks.put(None)

    def _serve(self) -> None:
        try:
            while (group := self._tasks.get()) is not None:
                step, work = group.pop(0)
                self._started.start(step.step_id)
                if isinstance(work, SharedWork):
                    self._deliver(_produce(step, partial(work.run, partial(self._next_of, group))))
                else:
                    self._deliver(_produce(step, work))
                if group:
                    self._tasks.put(group)  # it took too long for all of them
        finally:
            connections.close_all()

    def _next_of(self, group: _Group) -> SharedWork | None:
        """The next of these that may share the transaction of the work under way."""
        if not group:
            return None
        step, work = group.pop(0)
        self._started.start(step.step_id)
        return work if isinstance(work, SharedWork) else None


def _produce(step: Claimed, work: Callable[[], Any]) -> Any:
    """What `work` returns, whatever happens: a thread that died would take its step's outcome with it."""
    began = clock.monotonic()
    try:
        produced = work()
        _clean_up_connections()
    except BaseException as error:
        return failure(step, error, began)
    return produced


def _clean_up_connections() -> None:
    """A step may leave an open transaction or a broken connection behind; the next one must not inherit it."""
    opened = connections.all(initialized_only=True)
    if not opened:  # most steps have none
        return
    for connection in opened:
        if connection.in_atomic_block:
            connection.close()
            del connections[connection.alias]
    close_old_connections()


class EventLoop:
    """An event loop in a thread of its own, started with the first coroutine."""

    def __init__(self, started: StartedSteps, deliver: Deliver, io: StepIO) -> None:
        self._is_stopping = False
        self._begun = 0  # written by the pump's thread only
        self._ended = 0  # written by the loop's thread only
        self._started = started
        self._deliver = deliver
        self._io = io
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def running(self) -> int:
        """How many coroutines have not ended."""
        return self._begun - self._ended

    def start(self, steps: Sequence[tuple[Invocation, Outputs]]) -> None:
        """Begin these steps now."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._serve, args=(self._loop,), name="dynflow-loop", daemon=True)
            self._thread.start()
        self._begun += len(steps)
        self._loop.call_soon_threadsafe(self._begin, steps)

    def stop(self) -> None:
        """End the loop. Its steps have ended, or their process is about to and nobody waits for them."""
        if self._loop is not None and self._thread is not None:
            self._is_stopping = True
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(timeout=STOP_TIMEOUT)
            if not self._thread.is_alive() and not self.running:
                self._loop.close()

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        """A task of user code that exits, or that stops the loop, must not take the other coroutines with it."""
        while not self._is_stopping:
            try:
                loop.run_forever()
            except BaseException as error:
                _log.error(
                    "a task of user code raised in the event loop", exc_info=error, extra={"action": "loop_raised"}
                )

    def _begin(self, steps: Sequence[tuple[Invocation, Outputs]]) -> None:
        for invocation, outputs in steps:
            self._started.start(invocation.step.step_id)
            task = asyncio.get_running_loop().create_task(self._run(invocation, outputs))
            self._tasks.add(task)  # the loop itself keeps only weak references
            task.add_done_callback(self._tasks.discard)

    async def _run(self, invocation: Invocation, outputs: Outputs) -> None:
        outcome = await execute_async(invocation.step, outputs, invocation, self._io)
        if outcome.error is not None:  # its connection may be the reason, and the next one must not inherit it
            await sync_to_async(_clean_up_connections)()
        self._ended += 1
        self._deliver(outcome)
