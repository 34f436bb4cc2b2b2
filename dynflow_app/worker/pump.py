"""The pump: claims steps in batches, hands them to threads or to an event loop, records outcomes in batches.

One thread, the one that calls `Pump.run`, talks to the ledger; user code never uses its connection. Everything reaches
it through one inbox: outcomes, pieces of log, doorbells. One transaction records what ended, releases what waited for
it, and claims the next steps; so a busy worker needs neither doorbells nor the orchestrator to go on.

If the database goes away, outcomes are kept and recorded when it is back: the attempt number makes repeating harmless.
Whether an interrupted commit took place cannot be known, so afterwards what the ledger believes to run here is compared
with what is in hand; see `comparison`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from django.db import DatabaseError, DataError, IntegrityError, InterfaceError

from dynflow_app import clock, probes, transport
from dynflow_app.conf import settings
from dynflow_app.ledger.concluding import announce_effects
from dynflow_app.ledger.effects import Effects
from dynflow_app.messages import Claimed, Outcome
from dynflow_app.models import World
from dynflow_app.models.base import is_outage, is_victim, ledger_connection
from dynflow_app.processes.waiting import Backoff
from dynflow_app.worker.appetite import Appetite
from dynflow_app.worker.aside import Aside
from dynflow_app.worker.bell import Bell
from dynflow_app.worker.comparison import Comparison
from dynflow_app.worker.hand import Hand
from dynflow_app.worker.inbox import Inbox, Item, LogPiece, Progress, Rang
from dynflow_app.worker.processes.started import StartedSteps
from dynflow_app.worker.recorder import Recorder, Written
from dynflow_app.worker.shared_transactions import SelfRecorded
from dynflow_app.worker.stop_requests import StopRequests

_log = logging.getLogger("dynflow_app.worker")

GATHER = 0.002
"""Seconds an outcome waits for others to be recorded with, while more steps are running."""
LONGEST_GATHER = 0.02
"""Where turns take longer than `GATHER`, outcomes wait as long as one takes, but not beyond this."""


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
        self._inbox = Inbox()
        threads = threads or settings.WORKER_THREADS
        self._hand = Hand(world, self._inbox, started or StartedSteps(), threads)
        self._appetite = Appetite(threads, settings.WORKER_COROUTINES, settings.BATCH)
        self._recorder = Recorder(world, self.queues)
        self._bell = Bell(self.queues or [], lambda: self._inbox.put(Rang()))
        self._comparison = Comparison(world, self.queues)
        self._stop_requests = StopRequests()
        self._may_end = may_end
        self._grace = grace
        self._unwritten = Written()
        self._aside = Aside()
        self._is_blocked = False
        self._stopping = threading.Event()
        self._stopping_since = 0.0
        self._more = True
        self._is_passing_on = False

    @property
    def left_something(self) -> bool:
        """Whether the last claim was full, so that there may be more."""
        return self._more

    @property
    def recorded(self) -> int:
        """How many steps are over."""
        return self._hand.recorded

    def stop(self) -> None:
        """Claim nothing more, hand back what has not started, return from `run` when the rest has ended.

        May be called from any thread or signal handler.
        """
        self._stopping.set()
        self._inbox.put(Rang())

    def run(self, *, burst: bool = False, until: float | None = None) -> int:
        """Work until `stop`, or with `burst` until nothing is ready; not beyond `until` on the monotonic clock.

        Returns how many steps were recorded. Outcomes of running steps are awaited, for ``grace`` seconds if that is
        given; those that take longer are left to recovery.
        """
        if not burst:  # a burst ends when nothing is ready, so it has no use for a bell
            self._bell.start()
        try:
            self._work(burst, until)
        finally:
            self._stopping.set()
            self._bell.stop()
            self._hand.stop()
        return self.recorded

    def _work(self, burst: bool, until: float | None) -> None:
        backoff = Backoff()
        while not self._is_over(burst, until):
            try:
                self._turn()
                backoff.reset()
            except (DatabaseError, InterfaceError) as error:
                if is_victim(error):
                    self._is_blocked = True
                    self._recorder.pass_locked()
                    _log.warning(
                        "%s waited for a lock of somebody else: %s", self.world, str(error).strip(),
                        extra={"action": "blocked"},
                    )  # fmt: skip
                elif is_outage(error):
                    self._comparison.doubt()
                    ledger_connection().close()
                    backoff.wait("the database", error, None if self._hand else self._stopping)
                else:
                    raise

    # --- one turn --------------------------------------------------------------------------------------------

    def _is_over(self, burst: bool, until: float | None) -> bool:
        if until is not None and clock.monotonic() > until:
            self._stopping.set()
        if self._stopping.is_set():
            self._stopping_since = self._stopping_since or clock.monotonic()
            if self._grace is not None and clock.monotonic() - self._stopping_since > self._grace:
                return True
        return not (self._hand or self._unwritten) and (self._stopping.is_set() or (burst and not self._more))

    def _turn(self) -> None:
        if self._stopping.is_set():
            self._unwritten.outcomes += self._hand.withdraw()
        self._gather()
        was_blocked, self._is_blocked = self._is_blocked, False
        if was_blocked:
            self._unwritten.outcomes = self._aside.sort_out(self._unwritten.outcomes)
        self._unwritten.outcomes += self._aside.due()
        if self._comparison.is_due:
            self._compare()
        if self._hand and self._stop_requests.is_due():
            self._give_up_on(self._stop_requests.look(self._hand.invocations))
        # What blocks may be what is claimed first, so that is recorded alone which was to be recorded with it.
        limit = 0 if self._is_passing_on or was_blocked else self._room()
        self._is_passing_on = False
        if not (self._unwritten or (limit and self._more)):
            return
        try:
            turned = self._recorder.turn(self._unwritten, limit)
        except (DataError, IntegrityError):
            if self._recorder.is_careful:
                raise
            self._recorder.is_careful = True  # one of them cannot be stored: find it in the next turn
            return
        probes.reached(probes.Probe.OUTCOMES_COMMITTED)
        for outcome in self._unwritten.outcomes:
            self._hand.is_over(outcome.step_id, outcome.attempt)
        self._unwritten = Written()
        self._more = was_blocked or len(turned.claimed) == limit > 0
        if turned.claimed:
            self._appetite.is_for_coroutines = self._hand.take(turned.claimed, turned.outputs)
        self._ring(turned.effects, turned.claimed)
        announce_effects(turned.effects)

    def _gather(self) -> None:
        """Move what the inbox has into this turn; wait for something if there is nothing to do."""
        idle = not self._unwritten and not (self._more and self._room())
        self._bell.listen_if(hungry=bool(self._room()) and not self._more)
        deadline = None
        while len(self._unwritten.outcomes) < settings.BATCH:
            patience = self._hand.start_waiting()
            timeout = patience if idle and deadline is None else max(0.0, (deadline or 0.0) - clock.monotonic())
            item = self._inbox.get(timeout)
            if item is None:
                if deadline is None and idle and self._hand.is_stale:
                    self._pass_on()
                return
            self._accept(item)
            if deadline is None:
                deadline = clock.monotonic() + max(GATHER, min(self._recorder.seconds, LONGEST_GATHER))
            if len(self._unwritten.outcomes) + len(self._aside) >= len(self._hand):
                deadline = 0.0  # nothing is running that would be worth waiting for
            idle = False

    def _accept(self, item: Item) -> None:
        if isinstance(item, Outcome):
            if self._hand.is_awaited(item):
                self._unwritten.outcomes.append(item)
                self._appetite.learn(item.seconds)
        elif isinstance(item, LogPiece):
            self._unwritten.pieces.append(item)
        elif isinstance(item, Progress):
            self._unwritten.progress[item.step_id] = item
        elif isinstance(item, SelfRecorded):
            self._accept_recorded(item)
        else:
            self._more = True

    def _accept_recorded(self, ended: SelfRecorded) -> None:
        """Steps that shared their transaction with the ledger."""
        self._hand.shared_transaction_ended()
        self._unwritten.outcomes += [outcome for outcome in ended.outcomes if self._hand.is_awaited(outcome)]
        self._appetite.learn(ended.seconds / len(ended.steps), times=len(ended.steps))
        left = {outcome.step_id for outcome in ended.outcomes}
        for step in ended.steps:
            if step.step_id not in left:
                self._hand.is_over(step.step_id, step.attempt)
        self._ring(ended.effects, [])
        announce_effects(ended.effects)

    def _room(self) -> int:
        if self._stopping.is_set():
            return 0
        coroutines = self._hand.coroutines
        blocking = len(self._hand) - len(self._unwritten.outcomes) - len(self._aside) - coroutines
        return self._appetite.room(blocking=blocking, coroutines=coroutines, slots=self._hand.started.room)

    def _compare(self) -> None:
        """Heal what this process and the ledger disagree about, and look for steps whose bell nobody heard."""
        healed = self._comparison.make(self._hand.invocations)
        self._ring(healed.effects, [])
        self._stop_requests.end(healed.taken_back)
        self._more = self._more or healed.is_anything_ready

    def _give_up_on(self, outcomes: Sequence[Outcome]) -> None:
        """Record these instead of what code would say that cannot be ended, and get rid of the process it runs in."""
        self._unwritten.outcomes += outcomes
        for outcome in outcomes:
            self._hand.lose(outcome.step_id)
            _log.warning(
                "code that could not be ended goes on in a thread",
                extra={"action": "code_abandoned", "step": outcome.step_id, "attempt": outcome.attempt},
            )
        if outcomes and self._may_end:
            self.stop()

    def _pass_on(self) -> None:
        """Give back what was claimed ahead of steps that turned out to be long, and claim nothing in the same turn."""
        self._unwritten.outcomes += self._hand.withdraw()
        self._is_passing_on = True
        self._appetite.learn_at_least(self._hand.claimed_for)

    def _ring(self, effects: Effects, claimed: Sequence[Claimed]) -> None:
        """Wake others for what became ready, without what this worker took itself."""
        bell = transport.get()
        for step in claimed:
            if effects.ready[step.queue] > 0:
                effects.ready[step.queue] -= 1
        others = +effects.ready
        if others:
            bell.ring_queues(others)
            self._more = self._more or self.queues is None or any(name in self.queues for name in others)
        if effects.rings_orchestrator:
            bell.ring_orchestrator()
