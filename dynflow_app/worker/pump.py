"""The pump: claims steps in batches, hands them to threads or to an event loop, records outcomes in batches.

One thread, the one that calls `Pump.run`, talks to the ledger; user code never uses its connection. Everything reaches
it through one inbox: outcomes, pieces of log, doorbells. One transaction records what ended, releases what waited for
it, and claims the next steps; so a busy worker needs neither doorbells nor the orchestrator to go on.

If the database goes away, outcomes are kept and recorded when it is back: the attempt number makes repeating harmless.
Whether an interrupted commit took place cannot be known, so afterwards steps that the ledger believes to run here, and
that are unknown here, are handed back.
"""

# long: one loop with all that it holds

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Sequence
from functools import partial
from typing import Any

from django.db import DatabaseError, DataError, IntegrityError, InterfaceError, connections, transaction

from dynflow_app import clock, probes, transport
from dynflow_app.actions import registry
from dynflow_app.conf import settings
from dynflow_app.ledger.claiming import claim, outputs_for
from dynflow_app.ledger.recording import Recorded
from dynflow_app.ledger.recovery import reclaim
from dynflow_app.messages import Claimed, Outcome
from dynflow_app.models import World
from dynflow_app.models.base import is_outage, ledger_alias, ledger_connection
from dynflow_app.processes.waiting import Backoff
from dynflow_app.states import Phase
from dynflow_app.worker.executor import Outputs, execute, is_async
from dynflow_app.worker.invocation import Invocation
from dynflow_app.worker.outcomes import handed_back
from dynflow_app.worker.pools import EventLoop, Threads, Work
from dynflow_app.worker.processes.isolated import execute_isolated
from dynflow_app.worker.processes.started import StartedSteps
from dynflow_app.worker.recorder import (
    LogPiece,
    announce_recorded,
    record_singly,
    record_together,
    write_log,
    write_progress,
)
from dynflow_app.worker.shared_transactions import SelfRecorded, SharedWork
from dynflow_app.worker.stop_requests import Wishes

_log = logging.getLogger("dynflow_app.worker")

PROMPT = 0.05
"""Seconds of work that may be claimed ahead: steps longer than this are only claimed when they can start."""
GATHER = 0.002
"""Seconds an outcome waits for others to be recorded with, while more steps are running."""
STALE = 1.0
"""Seconds after which steps that were claimed ahead, and could not start, are handed back."""


class _Ring:
    """Put into the inbox when a doorbell rang."""


class _IO:
    """Implements `StepIO`: into the inbox with it."""

    def __init__(self, inbox: queue.SimpleQueue[Any]) -> None:
        self._inbox = inbox

    def log(self, step: Claimed, text: str) -> None:
        self._inbox.put(LogPiece(step, text))

    def report(self, step: Claimed, progress: float) -> None:
        self._inbox.put((step.step_id, step.attempt, progress))


class Pump:
    """Runs the ready steps of some queues (None: of all) in one process.

    `may_end` says that somebody replaces the process when it ends, as it does to be rid of code that cannot be stopped.
    """

    def __init__(
        self,
        world: World,
        queues: Sequence[str] | None,
        *,
        started: StartedSteps | None = None,
        threads: int | None = None,
        grace: float | None = None,
        may_end: bool = False,
    ) -> None:
        self.world = world
        self.queues = list(queues) if queues else None
        self.started = started or StartedSteps()
        self._inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()  # of outcomes and the messages above
        self._io = _IO(self._inbox)
        self._threads = Threads(threads or settings.WORKER_THREADS, self.started, self._inbox.put)
        self._loop = EventLoop(self.started, self._inbox.put, self._io)
        self._wishes = Wishes(world)
        self._may_end = may_end
        self._outcomes: list[Outcome] = []
        self._pieces: list[LogPiece] = []
        self._progress: dict[int, tuple[int, float]] = {}
        self._in_flight: dict[int, Invocation] = {}
        self._hungry = threading.Event()
        self._stopping = threading.Event()
        self._grace = grace
        self._stopping_since = 0.0
        self._more = True
        self._uncertain = False
        self._is_one_unstorable = False
        self._is_passing_on = False
        self._seconds = PROMPT
        self._claimed_at = 0.0
        self.recorded = 0

    @property
    def left_something(self) -> bool:
        """Whether the last claim was full, so that there may be more."""
        return self._more

    def stop(self) -> None:
        """Claim nothing more, hand back what has not started, return from `run` when the rest has ended.

        May be called from any thread or signal handler.
        """
        self._stopping.set()
        self._inbox.put(_Ring)

    def run(self, *, burst: bool = False, until: float | None = None) -> int:
        """Work until `stop`, or with `burst` until nothing is ready; not beyond `until` on the monotonic clock.

        Returns how many steps were recorded. Outcomes of running steps are awaited, for ``grace`` seconds if that is
        given; those that take longer are left to recovery.
        """
        if not burst:  # a burst ends when nothing is ready, so it has no use for a bell
            threading.Thread(target=self._listen, name="dynflow-bell", daemon=True).start()
        backoff = Backoff()
        try:
            while not self._is_over(burst, until):
                try:
                    self._turn()
                    backoff.reset()
                except (DatabaseError, InterfaceError) as error:
                    if not is_outage(error):
                        raise
                    self._uncertain = True
                    ledger_connection().close()
                    backoff.wait("the database", error, self._stopping if not self._in_flight else None)
        finally:
            self._stopping.set()
            self._hungry.set()
            self._threads.stop()
            self._loop.stop()
        return self.recorded

    # --- one turn --------------------------------------------------------------------------------------------

    def _is_over(self, burst: bool, until: float | None) -> bool:
        if until is not None and clock.monotonic() > until:
            self._stopping.set()
        if self._stopping.is_set():
            self._stopping_since = self._stopping_since or clock.monotonic()
            if self._grace is not None and clock.monotonic() - self._stopping_since > self._grace:
                return True
        busy = self._in_flight or self._outcomes or self._pieces or self._progress
        return not busy and (self._stopping.is_set() or (burst and not self._more))

    def _turn(self) -> None:
        if self._stopping.is_set():
            self._hand_back_unstarted()
        self._gather()
        if self._uncertain:
            self._settle_doubts()
        if self._in_flight and self._wishes.is_due():
            self._give_up_on(self._wishes.look(self._in_flight))
        limit = 0 if self._is_passing_on else self._appetite()
        self._is_passing_on = False
        if not (self._outcomes or self._pieces or self._progress or (limit and self._more)):
            return
        write = record_singly if self._is_one_unstorable else record_together
        try:
            with transaction.atomic(using=ledger_alias()):
                write_log(self._pieces)
                recorded = write(self._outcomes, str(self.world))
                write_progress(self._progress)
                claimed = claim(self.world.pk, self.queues, limit) if limit else []
                outputs = outputs_for(claimed)
        except (DataError, IntegrityError):
            if self._is_one_unstorable:
                raise
            self._is_one_unstorable = True
            return
        self._is_one_unstorable = False
        probes.reached(probes.Probe.OUTCOMES_COMMITTED)
        self._forget_recorded()
        self._more = len(claimed) == limit > 0
        self._take(claimed, outputs)
        self._ring(recorded, claimed)
        announce_recorded(recorded)

    def _gather(self) -> None:
        """Move what the inbox has into this turn; wait for something if there is nothing to do."""
        idle = not (self._outcomes or self._pieces) and not (self._more and self._appetite())
        self._set_hunger()
        deadline = None
        while len(self._outcomes) < settings.BATCH:
            timeout = 1.0 if idle and deadline is None else max(0.0, (deadline or 0.0) - clock.monotonic())
            try:
                self._accept(self._inbox.get(timeout=timeout) if timeout else self._inbox.get_nowait())
            except queue.Empty:
                if deadline is None and idle and self._is_stale():
                    self._pass_on()
                return
            if deadline is None:
                deadline = clock.monotonic() + GATHER
            if len(self._outcomes) >= len(self._in_flight):
                deadline = 0.0  # nothing is running that would be worth waiting for
            idle = False

    def _accept(self, item: Any) -> None:
        if item is _Ring:
            self._more = True
        elif isinstance(item, LogPiece):
            self._pieces.append(item)
        elif isinstance(item, tuple):
            step_id, attempt, progress = item
            self._progress[step_id] = attempt, progress
        elif isinstance(item, SelfRecorded):
            left = [outcome for outcome in item.outcomes if self._is_awaited(outcome)]
            self._outcomes += left
            self._learn(item.seconds / len(item.steps), times=len(item.steps))
            for step_id in {step.step_id for step in item.steps} - {outcome.step_id for outcome in item.outcomes}:
                self._ended(step_id)
            self._ring(item.recorded, [])
            announce_recorded(item.recorded)
        elif self._is_awaited(item):
            self._outcomes.append(item)
            self._learn(item.seconds)

    def _learn(self, seconds: float, *, times: int = 1) -> None:
        """A step took so long, several times."""
        self._seconds += (seconds - self._seconds) * (1 - 0.7**times)

    def _is_awaited(self, outcome: Outcome) -> bool:
        """Whether this outcome is not of code that was given up: another attempt of its step may be under way."""
        invocation = self._in_flight.get(outcome.step_id)
        return invocation is not None and invocation.step.attempt == outcome.attempt and not invocation.is_abandoned

    def _appetite(self) -> int:
        """How many steps to claim now: as many as can start, or more if they are so short that they start soon."""
        if self._stopping.is_set():
            return 0
        batch: int = settings.BATCH
        ahead = max(self._threads.count, min(batch, int(PROMPT / max(self._seconds, 1e-6))))
        blocking = len(self._in_flight) - len(self._outcomes) - self._loop.running
        room = ahead - blocking
        if self._loop.is_preferred or room > settings.WORKER_COROUTINES - self._loop.running:
            room = settings.WORKER_COROUTINES - self._loop.running
        return max(0, min(batch, room, self.started.room))

    # --- steps in hand ---------------------------------------------------------------------------------------

    def _forget_recorded(self) -> None:
        for outcome in self._outcomes:
            self._ended(outcome.step_id)
        self._outcomes = []
        self._pieces = []
        self._progress = {}

    def _ended(self, step_id: int) -> None:
        if self._in_flight.pop(step_id, None) is not None:
            self.started.recorded(step_id)
            self.recorded += 1

    def _settle_doubts(self) -> None:
        with transaction.atomic(using=ledger_alias()):
            reclaim(self.world.pk, worker=str(self.world), started=frozenset(), spare=frozenset(self._in_flight))
        self._uncertain = False
        self._more = True

    def _take(self, claimed: Sequence[Claimed], outputs: dict[Any, dict[int, Any]]) -> None:
        coroutines = []
        for step in claimed:
            invocation = self._in_flight[step.step_id] = Invocation(step)
            self.started.claimed(step.step_id)
            if is_async(step):
                coroutines.append((invocation, outputs.get(step.plan_id)))
            else:
                self._threads.submit(step, self._work_of(invocation, outputs.get(step.plan_id)))
        if coroutines:
            self._loop.start(coroutines)
        if claimed:
            self._loop.is_preferred = len(coroutines) == len(claimed)
            self._claimed_at = clock.monotonic()

    def _work_of(self, invocation: Invocation, outputs: Outputs) -> Work:
        """What a thread has to do for this step."""
        step = invocation.step
        action_class = registry.known(step.action_name)
        is_atomic = step.phase == Phase.RUN and action_class is not None and action_class.atomic
        if is_atomic or step.phase in (Phase.PLAN, Phase.FINALIZE):
            return SharedWork(step, outputs, invocation, self.world, self._io)
        if step.phase == Phase.RUN and action_class is not None and action_class.isolated:
            return partial(execute_isolated, step, outputs, invocation, self._io)
        return partial(execute, step, outputs, invocation, self._io)

    def _give_up_on(self, outcomes: Sequence[Outcome]) -> None:
        """Record these instead of what code would say that cannot be ended, and get rid of the process it runs in."""
        self._outcomes += outcomes
        for outcome in outcomes:
            if not is_async(self._in_flight[outcome.step_id].step):
                self._threads.lose_one()
            _log.warning(
                "code that could not be ended goes on in a thread",
                extra={"action": "code_abandoned", "step": outcome.step_id, "attempt": outcome.attempt},
            )
        if outcomes and self._may_end:
            self.stop()

    def _hand_back_unstarted(self) -> None:
        self._outcomes += [handed_back(step) for step in self._threads.withdraw()]

    def _pass_on(self) -> None:
        """Give back what was claimed ahead of steps that turned out to be long, and claim nothing in the same turn."""
        self._hand_back_unstarted()
        self._is_passing_on = True
        self._seconds = max(self._seconds, clock.monotonic() - self._claimed_at)

    def _is_stale(self) -> bool:
        return self._threads.waiting > 0 and clock.monotonic() - self._claimed_at > STALE

    # --- doorbells -------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        """Turn doorbells into messages, while there is appetite: a sated worker leaves the bell to others."""
        bell = transport.get()
        while not self._stopping.is_set():
            self._hungry.wait()
            try:
                rung = bell.wait_queues(self.queues or [], timeout=1.0)
            except (DatabaseError, InterfaceError):  # the first wait looks up the installation's name
                rung = not self._stopping.wait(1.0)
            connections.close_all()
            if rung and self._hungry.is_set() and not self._stopping.is_set():
                self._hungry.clear()
                self._inbox.put(_Ring)
            elif rung:  # sated meanwhile, or about to end: pass it on
                bell.pass_on(self.queues or [])

    def _set_hunger(self) -> None:
        if self._appetite() and not self._more:
            self._hungry.set()
        else:
            self._hungry.clear()

    def _ring(self, recorded: Recorded, claimed: Sequence[Claimed]) -> None:
        bell = transport.get()
        for step in claimed:
            if recorded.ready[step.queue] > 0:
                recorded.ready[step.queue] -= 1
        others = +recorded.ready
        if others:
            bell.ring_queues(others)
            self._more = self._more or self.queues is None or any(name in self.queues for name in others)
        if recorded.settled:
            bell.ring_orchestrator()
