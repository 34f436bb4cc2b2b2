"""Doorbells: losable hints that there is something to claim or to read. The only package that talks to Redis.

`get` returns the transport that the settings ask for: RQ and Redis, or one process without either. A ring never
raises: whatever it could not say is found by the orchestrator's sweep.
"""

from __future__ import annotations

import functools

from django.conf import settings as django_settings
from django.core.signals import setting_changed

from dynflow_app.conf import settings
from dynflow_app.transport.base import Transport
from dynflow_app.transport.inline import InlineTransport


@functools.cache
def get() -> Transport:
    """This process's transport, made at the first call."""
    if settings.in_process:
        return InlineTransport()
    from dynflow_app.transport.rq import RqTransport  # a project without Redis need not have RQ

    return RqTransport()


def reset() -> None:
    """Forget connections: in a forked child, and when settings change."""
    get.cache_clear()


def known_queues() -> frozenset[str] | None:
    """Queues that steps may be in; None if any name will do (in one process)."""
    if settings.in_process:
        return None
    return frozenset(getattr(django_settings, "RQ_QUEUES", {})) - {settings.ORCHESTRATOR_QUEUE}


def _on_setting_changed(*, setting: str, **_: object) -> None:
    if setting in ("DYNFLOW", "RQ_QUEUES"):
        reset()


setting_changed.connect(_on_setting_changed, dispatch_uid="dynflow_app.transport")
