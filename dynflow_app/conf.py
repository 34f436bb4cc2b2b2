"""Settings: one dict, ``DYNFLOW``, read once for each key, and again when tests override it."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass, fields
from typing import Any

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

IN_PROCESS = "in-process"
RQ = "rq"


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """Every key of ``DYNFLOW`` with its default. Durations are seconds, sizes bytes unless named otherwise."""

    EXECUTOR: str = RQ
    """``rq``: orchestrator and RQ workers. ``in-process``: one ``dynflow_executor``, no Redis."""
    DEFAULT_QUEUE: str = "default"
    """Queue of actions that name none."""
    ORCHESTRATOR_QUEUE: str = "dynflow_orchestrator"
    """Key of ``RQ_QUEUES`` whose Redis carries the leader lease and the orchestrator's doorbell."""
    ACTIONS_MODULE: str = "actions"
    """Submodule of each installed app that is imported to find actions."""
    LEASE: float = 10.0
    """How long the leader's lease lasts without renewal."""
    LEASE_RENEW_INTERVAL: float = 3.0
    """How often the leader renews its lease; less than half of ``LEASE``."""
    STANDBY_POLL_INTERVAL: float = 1.0
    """How often a standby tries to take the lease."""
    SWEEP_INTERVAL: float = 5.0
    """How often the leader looks for what lost doorbells left behind."""
    HEARTBEAT_INTERVAL: float = 3.0
    """How often a process says in the ledger that it is alive."""
    WORLD_TIMEOUT: float = 10.0
    """Silence after which the steps of a process are taken from it; at least three heartbeats."""
    WORKER_CHILDREN: int = min(2, os.cpu_count() or 1)
    """Processes per ``rqworker`` that run steps."""
    WORKER_THREADS: int = 10
    """Blocking steps that one child runs at once."""
    WORKER_COROUTINES: int = 1000
    """``async def run`` steps that one child runs at once."""
    WORKER_STOP_TIMEOUT: float = 30.0
    """Grace for running steps when a worker is told to stop; then they are killed and count as lost."""
    WORKER_MEMORY_LIMIT: int | None = 512 * 1024 * 1024
    """Resident size at which a child is replaced by a fresh one; None for no limit."""
    WORKER_MAX_STEPS: int | None = None
    """Steps after which a child is replaced by a fresh one; None for no limit."""
    BATCH: int = 100
    """Most steps claimed, or outcomes recorded, in one transaction."""
    PAYLOAD_LIMIT: int = 1024 * 1024
    """Largest input or output of one action, as JSON."""
    ERROR_LIMIT: int = 64 * 1024
    """Longest message or traceback kept of an error; longer ones are cut in the middle."""
    LOG_LIMIT: int = 1024 * 1024
    """Characters that one invocation of a step may log; beyond that only the last 64 Ki are kept, and a count."""
    ENCRYPTION_KEYS: tuple[str, ...] = ()
    """Fernet keys for what actions call sensitive: the first encrypts, all decrypt. Empty: it is stored as it is."""
    MIDDLEWARE: tuple[str, ...] = ()
    """Dotted paths of the `Middleware` classes that wrap all actions, the outermost first."""
    CALLBACK_URL: str = ""
    """Where outside systems reach our callbacks, such as ``https://example.org/dynflow/callbacks/``. Empty: nowhere."""
    KEEP_FOR: float | None = None
    """Days after which a stopped plan may be cleaned up, if its action does not say. None: it is kept for ever."""
    DECLARE_SCHEDULES: bool = True
    """Whether schedules that actions declare become rows. Off for copies of a system that must not act."""
    AUTO_RESCUE: bool = True
    """Whether a plan does by itself what the rescue strategies of its failed actions suggest; otherwise it pauses."""


class Settings:
    """Attribute access to ``settings.DYNFLOW`` with defaults.

    Raises `ImproperlyConfigured` for a key that does not exist, naming the nearest one.
    """

    def __getattr__(self, name: str) -> Any:  # each key has the type that Defaults declares
        if name not in KNOWN_KEYS:
            raise AttributeError(name)
        given: dict[str, Any] = getattr(django_settings, "DYNFLOW", {})
        if not isinstance(given, dict):
            raise ImproperlyConfigured("DYNFLOW is not a dictionary. Write DYNFLOW = {} for the defaults.")
        unknown = sorted(map(str, given.keys() - KNOWN_KEYS))
        if unknown:
            raise ImproperlyConfigured(unknown_key_message(unknown[0]))
        value = self.__dict__[name] = given.get(name, getattr(DEFAULTS, name))  # looked up once
        return value

    @property
    def in_process(self) -> bool:
        """Whether the in-process executor runs the plans, without Redis."""
        return bool(self.EXECUTOR == IN_PROCESS)


def unknown_key_message(key: str) -> str:
    """One sentence for a mistyped key of ``DYNFLOW``."""
    near = difflib.get_close_matches(key.upper(), KNOWN_KEYS, n=1)
    return f"DYNFLOW has no setting {key!r}." + (f" Did you mean {near[0]!r}?" if near else "")


DEFAULTS = Defaults()
KNOWN_KEYS = frozenset(field.name for field in fields(Defaults))
settings = Settings()


def _forget(*, setting: str, **_: object) -> None:
    if setting == "DYNFLOW":
        settings.__dict__.clear()


setting_changed.connect(_forget, dispatch_uid="dynflow_app.conf")
