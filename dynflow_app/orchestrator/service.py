"""The orchestrator's loop: lead or stand by, read the inbox, do what is due, wait for the doorbell."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from django.db import DatabaseError, InterfaceError, close_old_connections, connections

from dynflow_app import clock, transport
from dynflow_app.conf import settings
from dynflow_app.exceptions import LostLeadershipError
from dynflow_app.ledger.sessions import guarded_sessions
from dynflow_app.models import Term
from dynflow_app.models.base import is_outage, is_victim
from dynflow_app.orchestrator import inbox, recovery, schedules, sweep, timers
from dynflow_app.orchestrator.leading import Leader
from dynflow_app.processes.waiting import Backoff
from dynflow_app.transport.base import TransportError

_log = logging.getLogger("dynflow_app.orchestrator")

FORGET_INTERVAL = 600.0
SHORTEST_WAIT = 0.01
LONGEST_WAIT = 1.0
"""Seconds after which the loop sees to its lease and its duties even if nothing rings."""
LEAST_LIMIT = 30.0
"""Seconds that a transaction of the leader may take, however short its lease is."""
LONGEST_LOOK = 5.0
"""Seconds after which it looks for timers even if nothing rings and none is known to be due: whoever sets a timer
rings, but a ring may be lost."""


class Duty:
    """Something the leader does at intervals."""

    def __init__(self, interval: float, run_once: Callable[[Term], object]) -> None:
        self._interval = interval
        self._run_once = run_once
        self._due = 0.0

    def run_if_due(self, term: Term) -> None:
        """Do it if its time has come."""
        if clock.monotonic() >= self._due:
            _patiently(self._run_once, term)
            self._due = clock.monotonic() + self._interval


class Orchestrator:
    """One process's (or thread's) part in orchestration."""

    def __init__(self, stop: threading.Event, *, standby: bool = True) -> None:
        self._stop = stop
        self._standby = standby
        self._leader = Leader()
        self._duties = self._new_duties()
        self._look_at = 0.0
        self._stands_by = False

    def run(self) -> bool:
        """Lead whenever possible until `stop` is set. Returns False if another leads and standing by is not wanted."""
        # Not much longer than its lease, or a standby would wait for the row that says who leads; but long enough to
        # start the largest of plans on a slow server.
        with guarded_sessions(longest=max(3 * settings.LEASE, LEAST_LIMIT)):
            return self._serve()

    def _serve(self) -> bool:
        backoff = Backoff()
        try:
            while not self._stop.is_set():
                try:
                    if not self._turn():
                        return False
                    backoff.reset()
                except LostLeadershipError:
                    self._leader.step_down("the ledger has a newer epoch")
                except TransportError as error:
                    backoff.wait("Redis", error, self._stop)
                except (DatabaseError, InterfaceError) as error:
                    if is_victim(error):  # of a lock on the row that says who leads
                        backoff.wait("a lock of somebody else", error, self._stop)
                    elif is_outage(error):
                        self._database_away(error, backoff)
                    else:
                        raise
        finally:
            self._leader.step_down("stopped")
            connections.close_all()
        return True

    def _turn(self) -> bool:
        term = self._leader.term
        if term is None:
            if self._leader.try_to_lead():
                self._stands_by = False
                self._duties = self._new_duties()
                self._look_at = 0.0
            elif self._standby:
                self._say_that_it_stands_by()
                self._stop.wait(settings.STANDBY_POLL_INTERVAL)
            else:
                return False
        elif self._leader.still_leads():
            if clock.monotonic() >= self._look_at:
                self._look(term)
            for duty in self._duties:
                duty.run_if_due(term)
            left = self._look_at - clock.monotonic()
            if left > 0 and transport.get().wait_orchestrator(min(LONGEST_WAIT, left)):
                self._look_at = 0.0
        return True

    def _say_that_it_stands_by(self) -> None:
        if not self._stands_by:
            self._stands_by = True
            _log.warning("standing by: another orchestrator has the lease", extra={"action": "role_changed"})

    def _look(self, term: Term) -> None:
        """Act on what is due, and note when to look again."""
        due = timers.look()
        if _act(term, due):
            return  # and there may be more
        first = LONGEST_LOOK if due.first is None else min(LONGEST_LOOK, max(due.first, SHORTEST_WAIT))
        self._look_at = clock.monotonic() + first

    def _database_away(self, error: Exception, backoff: Backoff) -> None:
        """Give the lease to a standby that may still reach the database, and come back as soon as we can."""
        connections.close_all()
        close_old_connections()
        self._leader.step_down("the database does not answer")
        backoff.wait("the database", error, self._stop)

    def _new_duties(self) -> list[Duty]:
        return [
            Duty(settings.HEARTBEAT_INTERVAL, recovery.Recovery().run_once),
            Duty(settings.SWEEP_INTERVAL, sweep.run_once),
            Duty(FORGET_INTERVAL, recovery.forget_old_worlds),
        ]


def _act(term: Term, due: timers.Due) -> int:
    """Act on what is due, and on nothing else; returns how much that was."""
    kinds = (
        (due.envelopes, inbox.run_once),
        (due.alarms, timers.fire_alarms),
        (due.limits, timers.fire_limits),
        (due.schedules, schedules.run_once),
    )
    return sum(_patiently(act, term) for seconds, act in kinds if timers.is_due(seconds))


def _patiently(act: Callable[[Term], Any], term: Term) -> int:
    """What `act` returns if it is a number; zero if somebody else had a lock that it needs, so that it is left for
    later, and whatever else is due goes on."""
    try:
        done = act(term)
    except DatabaseError as error:
        if not is_victim(error):
            raise
        _log.warning("left for later: %s", str(error).strip(), extra={"action": "blocked"})
        return 0
    return done if isinstance(done, int) else 0
