"""Ending user code before it is done: asking it to, and making it.

An `Invocation` is one call of user code. Whoever runs the code surrounds it with ``in_thread``, ``in_task`` or
``in_process``; whoever wants it to end calls `Invocation.ask`, and `Invocation.force` when asking did not help. What is
forced never reaches beyond that ``with`` block, into our own code.
"""

from __future__ import annotations

import asyncio
import ctypes
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol

from django.db import connections

from dynflow_app.exceptions import Abort, Cancel
from dynflow_app.messages import Claimed


class _Reach(Protocol):
    """How to get at user code where it runs. Called with the invocation's lock held."""

    def ask(self) -> None:
        """Let the code know that it should end."""

    def force(self) -> str:
        """End it; says how."""


class Invocation:
    """One call of user code that may have to end early. `ask` and `force` may be called from any thread."""

    __slots__ = (
        "_has_begun",
        "_lock",
        "_on_ask",
        "_reach",
        "deadline",
        "how",
        "is_abandoned",
        "is_forced",
        "step",
        "stop_with",
    )

    def __init__(self, step: Claimed) -> None:
        self.step = step
        self.stop_with: BaseException | None = None
        """What ends the code, once it was asked to end."""
        self.deadline: float | None = None
        """When its time is over, on the monotonic clock."""
        self.how = ""
        """What `force` did."""
        self.is_abandoned = False
        """Whether it could not be ended, so that nobody waits for it any more."""
        self.is_forced = False
        """Whether `force` was called, be it in vain."""
        self._has_begun = False
        self._reach: _Reach | None = None
        self._on_ask: Callable[[], None] | None = None
        self._lock = threading.RLock()

    @property
    def is_over(self) -> bool:
        """Whether user code began and is known to have ended."""
        return self._has_begun and self._reach is None

    def check(self) -> None:
        """Raise what ends this invocation, if it was asked to end."""
        if self.stop_with is not None:
            raise self.stop_with

    # --- for those who want it to end ------------------------------------------------------------------------

    def ask(self, error: BaseException) -> None:
        """Ask the code to end with `error`. Only the first call counts, but an `Abort` replaces a `Cancel`.

        From now on `check` raises; a coroutine is cancelled; what was given to `on_ask` is called. An `Abort` forces:
        in one go, or the code could end before anybody has noted how.
        """
        with self._lock:
            is_first = self.stop_with is None
            if not is_first and not (isinstance(error, Abort) and isinstance(self.stop_with, Cancel)):
                return
            self.stop_with = error
            if isinstance(error, Abort):
                self.force()
            elif self._reach is not None:
                self._reach.ask()
            if is_first and self._on_ask is not None:
                _in_background(self._on_ask)

    def force(self) -> str:
        """End the code as well as can be, without asking; returns one clause that says what was done.

        Code that has not begun never will: entering its ``with`` block raises ``stop_with`` (or `Abort`).
        """
        with self._lock:
            self.is_forced = True
            if self._reach is not None:
                self.how = self._reach.force()
                return self.how
            return "it had ended by itself" if self._has_begun else "it had not started"

    # --- for those who run it --------------------------------------------------------------------------------

    def on_ask(self, call: Callable[[], object], log: Callable[[str], None]) -> None:
        """Have `call` called in a thread of its own when the code is asked to end: at once if it already was.

        Until the ``with`` block is left. What it raises goes to `log`.
        """
        with self._lock:
            self._on_ask = lambda: _call(call, log)
            if self.stop_with is not None:
                _in_background(self._on_ask)

    def in_thread(self) -> _InThread:
        """``with invocation.in_thread():`` surrounds user code in the current thread.

        `force` raises `Abort` there, once. It comes out of this block or not at all: then the code had ended, and what
        it returned or raised stands.
        """
        return _InThread(self)

    @contextmanager
    def in_task(self, loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any]) -> Iterator[None]:
        """``with invocation.in_task(loop, task):`` surrounds what is awaited in the current task."""
        with self._within(_InTask(self, loop, task)):
            yield

    @contextmanager
    def in_process(self, kill: Callable[[], None], ask: Callable[[], None]) -> Iterator[None]:
        """``with invocation.in_process(kill, ask):`` surrounds waiting for a process that runs the code.

        `ask` is called in a thread of its own when ``stop_with`` is set; `kill` must not block.
        """
        with self._within(_InProcess(kill, ask)):
            yield

    @contextmanager
    def _within(self, reach: _Reach) -> Iterator[None]:
        self._enter(reach)
        try:
            yield
        finally:
            with self._lock:
                self._leave()

    def _enter(self, reach: _Reach) -> None:
        with self._lock:
            if self.is_forced:
                raise self.stop_with or Abort("ended before it started")
            self._has_begun = True
            self._reach = reach
            if self.stop_with is not None:
                reach.ask()

    def _leave(self) -> None:
        self._reach = self._on_ask = None


class _InThread:
    """An `Abort` is injected at most once. So wherever it surfaces, nothing more comes after it: also if that is before
    the first line of ``__exit__``, where no ``try`` can catch it and it leaves the block as if user code had raised it.
    """

    __slots__ = ("_invocation", "_is_injected", "_thread")

    def __init__(self, invocation: Invocation) -> None:
        self._invocation = invocation
        self._is_injected = False
        self._thread = 0

    def __enter__(self) -> None:
        self._thread = threading.get_ident()
        self._invocation._enter(self)

    def __exit__(self, *_: object) -> None:
        lock = self._invocation._lock
        is_undisturbed = False
        try:
            while not is_undisturbed:  # twice at most
                try:
                    lock.acquire()  # reentrant: it is ours in the second round, if an Abort came right after this
                    self._invocation._leave()
                    is_undisturbed = True
                    if self._is_injected:
                        self._absorb()
                except Abort:
                    continue
        finally:
            with suppress(RuntimeError):  # when it is not ours any more
                while True:
                    lock.release()

    def _absorb(self) -> None:
        """Provoke the `Abort` that may be pending, or replace it: either way just one is raised here, and none later.

        Taking it back would leave CPython 3.11 and 3.12 looking for it on every loop and call.
        """
        _raise_in(self._thread)
        while True:
            pass

    def ask(self) -> None:
        """Threads look for themselves: `Invocation.check`."""

    def force(self) -> str:
        """Raise `Abort` where the thread is; code in C, such as a sleep, gets to know when it returns."""
        if not self._is_injected:
            self._is_injected = True
            _raise_in(self._thread)
        return "an exception was raised in its thread"


class _InTask:
    __slots__ = ("_invocation", "_loop", "_task")

    def __init__(self, invocation: Invocation, loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any]) -> None:
        self._invocation = invocation
        self._loop = loop
        self._task = task

    def ask(self) -> None:
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._cancel)

    def force(self) -> str:
        self.ask()
        return "the coroutine was cancelled"

    def _cancel(self) -> None:
        """In the loop, so the task is at some ``await`` now: of user code, or of our own, which must not be hit."""
        if self._invocation._reach is self:
            self._task.cancel()


class _InProcess:
    __slots__ = ("_ask", "_kill")

    def __init__(self, kill: Callable[[], None], ask: Callable[[], None]) -> None:
        self._kill = kill
        self._ask = ask

    def ask(self) -> None:
        _in_background(self._ask)

    def force(self) -> str:
        self._kill()
        return "its process was killed"


def _raise_in(thread: int) -> None:
    """Have `Abort` raised in `thread` at its next call or loop."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(Abort))


def _in_background(call: Callable[[], None]) -> None:
    threading.Thread(target=call, name="dynflow-ask", daemon=True).start()


def _call(call: Callable[[], object], log: Callable[[str], None]) -> None:
    try:
        call()
    except BaseException as error:
        log(f"Asked to end, it raised {type(error).__name__}: {error}")
    finally:
        connections.close_all()  # of this thread
