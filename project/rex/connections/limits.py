"""How many commands one event loop runs at a time.

An async worker takes thousands of steps at once. Each local command costs it three file
descriptors and a thread, each SSH connection a descriptor and a key exchange, so the rest wait.
"""

from __future__ import annotations

import asyncio
from weakref import WeakKeyDictionary

from project.rex.inventory import Connection

LIMITS = {Connection.LOCAL: 64, Connection.SSH: 200}
"""Commands at a time, by connection."""

_slots: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Connection, asyncio.Semaphore]] = WeakKeyDictionary()


def slot(connection: Connection) -> asyncio.Semaphore:
    """Return what to hold (``async with``) in the running loop while a command runs."""
    slots = _slots.setdefault(asyncio.get_running_loop(), {})
    if connection not in slots:
        slots[connection] = asyncio.Semaphore(LIMITS[connection])
    return slots[connection]
