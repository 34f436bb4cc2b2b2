"""A process that forks others: it has Django and all actions loaded, so a new one costs a fork and not an import.

::

    worker -> fork server -> process, process, ...

Each forked process is held by a *leash*, a socket between worker and fork server. When the worker shuts it, or is gone,
the process and its whole group are killed. The fork server runs no step and has one thread, so nothing that user code
does keeps it from doing that; if it is killed itself, the kernel kills what it forked (see `die_with_parent`).
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import logging
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from types import TracebackType
from typing import NoReturn, Self

from dynflow_app.exceptions import DynflowError
from dynflow_app.processes.parent_death import die_with_parent, is_orphan

_log = logging.getLogger("dynflow_app.worker")

START_TIMEOUT = 60.0
"""Seconds that the fork server may take to load the project."""
SIGNALS = (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM)


@dataclass(slots=True)
class Forked:
    """A forked process, in the worker. Leaving its ``with`` block kills it."""

    connection: Connection
    """Send first ``(function, *arguments)``: the process calls ``function(its end, *arguments)`` and exits."""
    leash: socket.socket
    """Readable once the process has ended."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.kill()
        self.connection.close()
        self.leash.close()

    def kill(self) -> None:
        """Kill the process and its group. From any thread; does not wait."""
        with contextlib.suppress(OSError):  # it has ended; closing would not do if user code forked this process
            self.leash.shutdown(socket.SHUT_WR)

    def wait(self) -> int | None:
        """Exit code, or minus the signal that killed it; None if the fork server vanished. Waits for the end.

        Raises `DynflowError` if there was no process.
        """
        try:
            answer = b"".join(iter(lambda: self.leash.recv(4096), b"")).decode()
        except ConnectionError:
            answer = ""
        try:
            return int(answer) if answer else None
        except ValueError:
            raise DynflowError(f"No process could be forked for this step: {answer}. Resume it later.") from None


class ForkServer:
    """The fork server of this process; it starts when it is first needed, and again if it was killed."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """In a process forked from this one: the fork server belongs to the parent."""
        self._lock = threading.Lock()
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def fork(self) -> Forked:
        """A new process. Raises `DynflowError` if the project cannot be loaded."""
        connection, its_connection = Pipe()
        leash, its_leash = socket.socketpair()
        with its_connection, its_leash, contextlib.ExitStack() as undo:
            undo.enter_context(forked := Forked(connection, leash))
            with self._lock:
                socket.send_fds(self._running(), [b"+"], [its_connection.fileno(), its_leash.fileno()])
            undo.pop_all()
        return forked

    def stop(self) -> None:
        """End it, and all that it forked."""
        with self._lock:
            control, process = self._control, self._process
            self._control = self._process = None
        if control is not None and process is not None:
            with control, contextlib.suppress(OSError):  # it has ended
                control.shutdown(socket.SHUT_RDWR)
            process.wait()

    def _running(self) -> socket.socket:
        if self._control is not None and self._process is not None and self._process.poll() is not None:
            self._control.close()
            self._control = None
        if self._control is None:
            self._control, self._process = self._start()
        return self._control

    def _start(self) -> tuple[socket.socket, subprocess.Popen[bytes]]:
        control, theirs = socket.socketpair()
        path = [str(entry) for entry in sys.path]
        program = f"import sys; sys.path[:] = {path!r}; from dynflow_app.worker.processes.fork_server import serve; "
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-c", f"{program}serve({theirs.fileno()}, {os.getpid()})"],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # a signal for the worker's group must not end what cleans up after it
            )
        control.settimeout(START_TIMEOUT)
        try:
            is_ready = control.recv(1) == b"+"
        except OSError:
            is_ready = False
        if not is_ready:
            control.close()
            raise DynflowError(
                f"The process that forks isolated steps cannot load the project (exit code {_end(process)}). It has "
                "said why on stderr. It runs this Python with DJANGO_SETTINGS_MODULE from the environment."
            )
        control.settimeout(None)
        return control, process


def _end(process: subprocess.Popen[bytes]) -> int:
    """Exit code of a process that is about to end, or should have."""
    try:
        return process.wait(timeout=1.0)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


fork_server = ForkServer()
atexit.register(fork_server.stop)
os.register_at_fork(after_in_child=fork_server.forget)


# --- in the fork server ------------------------------------------------------------------------------------------


def serve(control: int, parent: int) -> None:
    """What the fork server does until process `parent` is gone; `control` is its socket from there."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in (signal.SIGINT, signal.SIGTERM):  # it ends after the worker, whoever else is told to stop
        signal.signal(number, signal.SIG_IGN)
    os.set_inheritable(control, False)
    with socket.socket(fileno=control) as orders:
        _load()
        with contextlib.suppress(ConnectionError):
            orders.sendall(b"+")
            _Server(orders, parent).run()


def _load() -> None:
    import django

    django.setup()
    from django.db import connections

    import dynflow_app.worker.processes.isolated  # noqa: F401 - so that the forked have it

    connections.close_all()
    gc.freeze()  # collections in the forked would copy all of it


class _Server:
    def __init__(self, orders: socket.socket, parent: int) -> None:
        self._orders = orders
        self._parent = parent
        self._pids: dict[socket.socket, int] = {}  # by leash
        self._woken, self._waker = socket.socketpair()
        self._selector = selectors.DefaultSelector()

    def run(self) -> None:
        self._waker.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        for source in (self._orders, self._woken):
            self._selector.register(source, selectors.EVENT_READ)
        try:
            while not is_orphan(self._parent):  # a process forked by user code may hold its sockets open
                for key, _ in self._selector.select(timeout=1.0):
                    if key.fileobj is self._woken:
                        self._woken.recv(4096)
                    elif key.fileobj is not self._orders:
                        self._kill(key.fileobj)  # type: ignore[arg-type] # only sockets are registered
                    elif not self._accept():
                        return
                self._reap()
        finally:
            for pid in self._pids.values():
                _kill_group(pid)

    def _accept(self) -> bool:
        """Fork; False if there is nobody left to fork for."""
        data, descriptors, _, _ = socket.recv_fds(self._orders, 1, 2)
        if not data:
            return False
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        leash = socket.socket(fileno=descriptors[1])
        server = os.getpid()
        try:
            with Connection(descriptors[0]) as connection:
                pid = os.fork()
                if pid == 0:
                    self._live(connection, leash, server)
        except OSError as error:
            with leash, contextlib.suppress(OSError):
                leash.sendall(str(error).encode())
            return True
        with contextlib.suppress(OSError):  # it does the same: before either, the group could not be killed
            os.setpgid(pid, pid)
        self._pids[leash] = pid
        self._selector.register(leash, selectors.EVENT_READ)
        return True

    def _kill(self, leash: socket.socket) -> None:
        _kill_group(self._pids[leash])
        self._selector.unregister(leash)

    def _reap(self) -> None:
        for leash, pid in list(self._pids.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                if leash in self._selector.get_map():
                    self._kill(leash)  # programs that it has left behind
                del self._pids[leash]
                with leash, contextlib.suppress(OSError):
                    leash.sendall(str(os.waitstatus_to_exitcode(status)).encode())

    def _live(self, connection: Connection, leash: socket.socket, server: int) -> NoReturn:
        """The life of a forked process."""
        code = 1
        try:
            os.setpgid(0, 0)
            signal.set_wakeup_fd(-1)
            for number in SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            self._selector.close()
            for inherited in (*self._pids, leash, self._orders, self._woken, self._waker):
                inherited.close()
            die_with_parent()
            if not is_orphan(server):
                function, *arguments = connection.recv()
                function(connection, *arguments)
                code = 0
        except EOFError:
            pass  # the worker is gone
        except BaseException:
            _log.exception("an isolated step ended by an error", extra={"action": "isolated_failed"})
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: nothing but zombies
        os.killpg(pid, signal.SIGKILL)
