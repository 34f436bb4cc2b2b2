"""What the tests of connections share: catching output, and looking whether processes are gone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import psutil

from project.rex.connections import Command, Result, execute
from project.rex.inventory import Host

PATIENCE = 10.0
"""Seconds that a test waits for what should happen at once."""


@dataclass
class Caught:
    """What a command printed, and a way to wait for the first of it."""

    chunks: list[tuple[str, str]] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def __call__(self, stream: str, text: str) -> None:
        """Catch a piece of output."""
        self.chunks.append((stream, text))
        self.arrived.set()

    def text(self, stream: str = "stdout") -> str:
        """Return all that ``stream`` printed."""
        return "".join(text for name, text in self.chunks if name == stream)


def run(host: Host, command: Command) -> tuple[Result, Caught]:
    """Execute ``command`` in an event loop of its own."""

    async def main() -> tuple[Result, Caught]:
        caught = Caught()
        return await execute(host, command, caught), caught

    return asyncio.run(main())


async def cancelled_after_output(
    host: Host, command: Command, before: Callable[[], Awaitable[None]] | None = None
) -> Caught:
    """Execute ``command``, cancel it once it has printed something, and see it raise that."""
    caught = Caught()
    task = asyncio.create_task(execute(host, command, caught))
    await asyncio.wait_for(caught.arrived.wait(), PATIENCE)
    if before:
        await before()
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=PATIENCE)
    assert done
    assert task.cancelled()
    return caught


def gone(pid: int) -> bool:
    """Wait until process ``pid`` has ended, be it that nobody has collected it yet."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.01)
    return False
