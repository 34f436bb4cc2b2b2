"""Named points that tests may watch or break. In production a point costs one dictionary look-up.

A test installs a callable for a point; it may block, raise, or kill the process. Processes started by tests
install what the variable ``DYNFLOW_PROBES`` says: ``point=kill``, ``point=stop`` or ``point=raise``, each with an
optional ``@N`` (the N-th time), several separated by commas.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from enum import Enum


class Probe(Enum):
    """Where something irrevocable has just happened, or is just about to."""

    PLAN_STORED = "plan_stored"
    ENVELOPES_TAKEN = "envelopes_taken"
    DECISION_MADE = "decision_made"
    DECISION_COMMITTED = "decision_committed"
    STEPS_CLAIMED = "steps_claimed"
    USER_CODE_RETURNED = "user_code_returned"
    OUTCOMES_WRITTEN = "outcomes_written"
    OUTCOMES_COMMITTED = "outcomes_committed"
    LEASE_TAKEN = "lease_taken"
    LEASE_RENEWED = "lease_renewed"
    WORLD_INVALIDATED = "world_invalidated"
    FINALIZE_RETURNED = "finalize_returned"
    SHARED_WORK_COMMITTED = "shared_work_committed"
    TIMERS_FIRED = "timers_fired"
    PLANS_ARCHIVED = "plans_archived"
    PLANS_DELETED = "plans_deleted"
    SCHEDULES_FIRED = "schedules_fired"
    SUB_PLANS_MADE = "sub_plans_made"


class ProbeError(Exception):
    """Raised at a point that a test asked to fail."""


_installed: dict[Probe, Callable[[], None]] = {}


def reached(probe: Probe) -> None:
    """Call what a test installed for `probe`, if anything."""
    if _installed and (hook := _installed.get(probe)) is not None:
        hook()


def install(probe: Probe, hook: Callable[[], None] | None) -> None:
    """Let `hook` be called whenever `probe` is reached in this process; None removes it."""
    if hook is None:
        _installed.pop(probe, None)
    else:
        _installed[probe] = hook


def install_from_environment() -> None:
    """Install what ``DYNFLOW_PROBES`` asks for. Raises ValueError for an unknown point or deed."""
    for entry in filter(None, os.environ.get("DYNFLOW_PROBES", "").split(",")):
        point, _, deed = entry.partition("=")
        deed, _, count = deed.partition("@")
        install(Probe(point), _countdown(_DEEDS[deed], int(count or 1)))


def _countdown(deed: Callable[[], None], count: int) -> Callable[[], None]:
    left = [count]

    def hook() -> None:
        left[0] -= 1
        if left[0] == 0:
            deed()

    return hook


def _fail() -> None:
    raise ProbeError("a test asked this point to fail")


_DEEDS: dict[str, Callable[[], None]] = {
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "raise": _fail,
}
