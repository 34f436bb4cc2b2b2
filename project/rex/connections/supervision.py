"""Waiting for a command that runs, and stopping it when its time is over or nobody waits."""

from __future__ import annotations

import asyncio
from typing import Protocol

from project.rex.connections.command import TimeLimitError

STOP_GRACE = 2.0
"""Seconds between asking a command to end (SIGTERM) and killing it (SIGKILL)."""


class Running(Protocol):
    """A command that has been started."""

    ended: asyncio.Future[int]
    """Its exit code once it ended and all its output was read, or why that is not known."""

    async def stop(self) -> None:
        """Ask it to end, then kill it; kill it at once if this is cancelled."""


async def supervise(running: Running, time_limit: float | None) -> int:
    """Return the exit code of ``running``; ``time_limit`` is in seconds.

    Raises ``TimeLimitError`` or ``CancelledError``, the command being dead by then, and
    ``ConnectionLostError`` if its connection was.
    """
    try:
        await asyncio.wait([running.ended], timeout=time_limit)
    except asyncio.CancelledError:
        await running.stop()
        raise
    if not running.ended.done():
        await running.stop()
        raise TimeLimitError
    return running.ended.result()
