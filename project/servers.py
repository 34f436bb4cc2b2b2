"""Real PostgreSQL and Valkey from wheels, for the demo, the tests and for starting things by hand.

Nothing listens on a network port: both servers use sockets in private folders. PostgreSQL
keeps its data below the home folder, so a second start is fast; Valkey keeps nothing.

By hand, in one terminal::

    .venv/bin/python -m project.servers          # prints "export ..." lines, runs until Ctrl-C

and in another, after pasting those lines::

    .venv/bin/python manage.py migrate
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import fcntl
import os
import shlex
import shutil
import signal
import socket
import stat
import threading
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO, Self

from project.server_places import (
    DATABASE,
    copy_program,
    create_cluster,
    find_postgres,
    find_valkey,
    fits_socket,
    open_to_others,
    owned_folder,
    private_folder,
    server_account,
    temporary_folder,
)
from project.server_process import Guard, ServerProcess, ServersUnavailable, read_pid, wait_for_previous

__all__ = ["EmbeddedServers", "ServersUnavailable"]

POSTGRES_SOCKET = ".s.PGSQL.5432"
VALKEY_SOCKET = "valkey.sock"


class EmbeddedServers:
    """A PostgreSQL and a Valkey server that live as long as this object, or this process, at most.

    Use as a context manager, or with ``start()`` and ``stop()``. The addresses in ``environ``
    are known from the start and stay the same when a server is stopped and started again.
    """

    def __init__(self, home: Path, *, temporary: bool = False) -> None:
        """Prepare for the servers of ``home``; ``temporary`` removes that folder when stopped."""
        self.home = Path(home).resolve()
        self._temporary = temporary
        self._owner = os.getpid()
        self._lock: IO[bytes] | None = None
        self._guard: Guard | None = None
        self._short_folders: list[Path] = []
        self.environ: dict[str, str] = {}
        """Variables that point the settings at these servers; filled by ``start()``."""

    # --- the pair ---------------------------------------------------------------

    def start(self) -> Self:
        """Start both servers and return self.

        Raises ServersUnavailable when a wheel is missing or a server does not start; nothing is left then.
        """
        if self._guard is not None:
            self.start_postgres()
            self.start_valkey()
            return self
        atexit.register(self.stop)
        try:
            self._prepare()
            self.start_postgres()
            self.start_valkey()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stop both servers and remove what is temporary; does nothing when they are stopped."""
        if os.getpid() != self._owner:  # a forked child runs the same exit handlers
            return
        if self._guard is not None:
            self.stop_valkey()
            self.stop_postgres()
            self._guard.release()
            self._guard = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None
        self._remove_temporary()
        atexit.unregister(self.stop)

    def __enter__(self) -> Self:
        """Start both servers."""
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop both servers."""
        self.stop()

    # --- one at a time ------------------------------------------------------------

    def start_postgres(self) -> None:
        """Start PostgreSQL if it is not running; its data are those of the last time."""
        self._postgres.start(
            [
                self._programs / "postgres",
                *("-D", self._data, "-k", self._postgres_sockets, "-h", ""),
                *("-c", "max_connections=200", "-c", "fsync=on"),
            ],
            self._postgres_ready,
            account=self._account,
        )

    def stop_postgres(self) -> None:
        """Stop PostgreSQL; open connections are cut."""
        self._postgres.stop()

    def start_valkey(self) -> None:
        """Start Valkey, empty, if it is not running."""
        self._valkey.start(
            [
                self._valkey_program,
                *("--port", "0", "--unixsocket", self._valkey_socket, "--unixsocketperm", "700"),
                *("--save", "", "--appendonly", "no", "--daemonize", "no"),
                *("--dir", self._valkey_folder, "--pidfile", self._valkey_pid_file),
            ],
            self._valkey_ready,
        )

    def stop_valkey(self) -> None:
        """Stop Valkey; everything in it is lost."""
        self._valkey.stop()

    @property
    def postgres(self) -> ServerProcess:
        """The PostgreSQL process."""
        return self._postgres

    @property
    def valkey(self) -> ServerProcess:
        """The Valkey process."""
        return self._valkey

    # --- preparation ----------------------------------------------------------------

    def _prepare(self) -> None:
        """Find programs, folders and addresses; create the database cluster on first use."""
        package, self._valkey_program = find_postgres(), find_valkey()
        self._account = server_account()
        self.home.mkdir(parents=True, exist_ok=True)
        self.home.chmod(0o700 if self._account is None else 0o711)
        self._take_lock()
        self._place_postgres(package)
        self._place_valkey()
        wait_for_previous(self._data / "postmaster.pid", "postgres")
        wait_for_previous(self._valkey_pid_file, "valkey-server")
        self._guard = Guard(
            [self._data / "postmaster.pid", self._valkey_pid_file],
            [*self._short_folders, *([self.home] if self._temporary else [])],
        )
        if not self._data.exists():
            create_cluster(self._data, self._programs, self._account, self._postgres.log)
        self.environ = {
            "POSTGRES_HOST": str(self._postgres_sockets),
            "POSTGRES_PORT": "5432",
            "POSTGRES_DB": DATABASE,
            "POSTGRES_USER": "postgres",
            "POSTGRES_PASSWORD": "",
            "REDIS_URL": f"unix://{self._valkey_socket}?db=0",
        }

    def _take_lock(self) -> None:
        """Make sure that no other process runs servers in the same home."""
        self._lock = (self.home / "servers.lock").open("ab")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ServersUnavailable(f"Another program runs its servers in {self.home}; stop it first.") from error

    def _place_postgres(self, package: Path) -> None:
        """Choose folders that the server's account can reach, and copy the programs if it cannot."""
        base = self._postgres_base()
        private_folder(base, self._account)
        program = package / "pginstall" / "bin" / "postgres"
        if self._account and not open_to_others(program, stat.S_IROTH | stat.S_IXOTH):
            package = copy_program(package, base / "program")
        self._programs = package / "pginstall" / "bin"
        self._data = base / "data"
        self._postgres_sockets = self._socket_folder(base / "run", POSTGRES_SOCKET, owned_by_server=True)
        self._postgres = ServerProcess(
            "PostgreSQL", self.home / "postgres.log", [(signal.SIGINT, 15), (signal.SIGQUIT, 5)]
        )

    def _postgres_base(self) -> Path:
        """Return the folder for PostgreSQL: below home, or elsewhere when another account cannot get there.

        As root in a closed folder (such as root's own home) the place is kept in a file for the next start.
        """
        if self._account is None or open_to_others(self.home):
            return self.home / "postgres"
        note = self.home / "postgres.location"
        base = Path(note.read_text()) if note.exists() else None
        if base is None or not owned_folder(base, self._account):
            base = temporary_folder(self._account)
            note.write_text(str(base))
        if self._temporary:
            self._short_folders.append(base)
        return base

    def _place_valkey(self) -> None:
        """Choose the folders of Valkey, which runs as the caller."""
        self._valkey_folder = private_folder(self.home / "valkey")
        self._valkey_pid_file = self._valkey_folder / "valkey.pid"
        self._valkey_socket = self._socket_folder(self._valkey_folder, VALKEY_SOCKET) / VALKEY_SOCKET
        self._valkey = ServerProcess("Valkey", self.home / "valkey.log", [(signal.SIGTERM, 5)])

    def _socket_folder(self, wanted: Path, name: str, *, owned_by_server: bool = False) -> Path:
        """Return ``wanted``, or a short temporary folder when a socket path would be too long."""
        account = self._account if owned_by_server else None
        if fits_socket(wanted, name):
            return private_folder(wanted, account)
        self._short_folders.append(temporary_folder(account))
        return self._short_folders[-1]

    # --- readiness and removal --------------------------------------------------------

    def _postgres_ready(self) -> bool:
        """Whether this very server says in its pid file that it accepts connections."""
        pid_file = self._data / "postmaster.pid"
        if read_pid(pid_file) != self._postgres.pid:
            return False
        lines = pid_file.read_text().splitlines()
        return len(lines) > 7 and lines[7].strip() == "ready"

    def _valkey_ready(self) -> bool:
        """Whether the server answers on its socket."""
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1)
            connection.connect(str(self._valkey_socket))
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
        return False

    def _remove_temporary(self) -> None:
        """Remove short socket folders, and home if it is temporary."""
        for folder in self._short_folders:
            shutil.rmtree(folder, ignore_errors=True)
        self._short_folders.clear()
        if self._temporary:
            shutil.rmtree(self.home, ignore_errors=True)


def main() -> None:
    """Run both servers until Ctrl-C or SIGTERM and print how to reach them."""
    repository = Path(__file__).resolve().parents[1]
    parser = argparse.ArgumentParser(description="Run PostgreSQL and Valkey until Ctrl-C.")
    parser.add_argument("--home", type=Path, default=os.environ.get("DYNFLOW_HOME") or repository / ".dynflow")
    home = parser.parse_args().home
    finished = threading.Event()

    def finish(number: int, frame: FrameType | None) -> None:
        finished.set()

    signal.signal(signal.SIGINT, finish)
    signal.signal(signal.SIGTERM, finish)
    try:
        with EmbeddedServers(home) as servers:
            for name, value in servers.environ.items():
                print(f"export {name}={shlex.quote(value)}", flush=True)
            finished.wait()
    except ServersUnavailable as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
