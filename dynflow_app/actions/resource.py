"""Something that is kept alive between steps: one connection per process, opened when it is first needed."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar
from weakref import WeakSet

T = TypeVar("T")
CLOSE_TIMEOUT = 5.0
"""Seconds that closing may take when a process ends."""

_log = logging.getLogger("dynflow_app.worker")
_all: WeakSet[WorkerResource[Any]] = WeakSet()
_forked: list[bool] = []
"""Not empty in a forked process."""
_inherited: list[object] = []
"""What a forked process has from its parent: never used and never collected, for that might end it for the parent."""


class WorkerResource(Generic[T]):
    """``bus = WorkerResource(connect, close=..., check=...)`` at the top of a module; ``bus.get()`` in ``run()``.

    `open` is called once per process, by the first step that needs it. `check` is called by every other `get`: if it
    returns False or raises, the old one is closed and a new one opened. `close` is called when the process that runs
    steps stops or is replaced; what it raises is logged. A forked process opens its own.

    For any thread; what `open` returns is shared by all steps of the process, so it has to bear that.
    """

    def __init__(
        self,
        open: Callable[[], T],  # noqa: A002 - the right word
        *,
        close: Callable[[T], object] | None = None,
        check: Callable[[T], object] | None = None,
    ) -> None:
        self._open = open
        self._close = close
        self._check = check
        self._held: list[T] = []
        self._lock = threading.Lock()
        _all.add(self)

    def get(self) -> T:
        """The one of this process, opened if need be. Blocks while another thread opens it. Raises what `open` raises,
        and the next `get` tries again."""
        with self._lock:
            if self._held and not self._works(self._held[0]):
                self._let_go()
            if not self._held:
                self._held.append(self._open())
            return self._held[0]

    def close(self) -> None:
        """Close it if it is open; the next `get` opens it anew."""
        with self._lock:
            self._let_go()

    def _works(self, held: T) -> bool:
        if self._check is None:
            return True
        try:
            return self._check(held) is not False
        except Exception as error:
            _log.warning("a worker resource is opened anew: %s", error, extra={"action": "resource_lost"})
            return False

    def _let_go(self) -> None:
        while self._held:
            held = self._held.pop()
            if self._close is None:
                continue
            try:
                self._close(held)
            except Exception as error:
                _log.warning("a worker resource did not close: %s", error, extra={"action": "resource_not_closed"})

    def _forget(self) -> None:
        """In a forked process: what is held belongs to the parent, and so may the lock."""
        self._lock = threading.Lock()
        _inherited.extend(self._held)
        self._held = []


def close_resources() -> None:
    """Close all that this process has open; it is about to end, and does not wait long for what hangs."""
    if any(resource._held for resource in _all):
        thread = threading.Thread(target=_close_all, name="dynflow-close", daemon=True)
        thread.start()
        thread.join(timeout=CLOSE_TIMEOUT)


def _close_all() -> None:
    for resource in list(_all):
        resource.close()


def close_resources_if_forked() -> None:
    """As `close_resources`, in a process that was forked: such may end without anything else being called."""
    if _forked:
        close_resources()


def _forget_all() -> None:
    _forked.append(True)
    for resource in list(_all):
        resource._forget()


os.register_at_fork(after_in_child=_forget_all)
