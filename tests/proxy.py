"""A door between processes and a server, which a test can hold, cut, or make swallow an answer.

Everything passes until a test says otherwise. The thread that runs it knows nothing of the protocols, except how an
answer of PostgreSQL ends, so that the server has done what it was asked before the answer is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

READY = b"Z\x00\x00\x00\x05"
"""How PostgreSQL says that an answer is complete; one byte follows, the state of the transaction."""


class Proxy:
    """Listens on a socket, as a context manager; each connection gets one of its own to ``upstream``."""

    def __init__(self, upstream: Path, socket: Path) -> None:
        """Pass what comes in at ``socket`` on to ``upstream``, both Unix sockets."""
        self._upstream, self.socket = upstream, socket
        self._loop: asyncio.AbstractEventLoop
        self._listens, self._ends = threading.Event(), asyncio.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="proxy", daemon=True)
        self._links: set[_Link] = set()
        self._pattern = b""
        self._swallows = 0
        self._passes = asyncio.Event()
        self._passes.set()
        self.swallowed: list[bytes] = []
        """The questions whose answers were swallowed."""

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._listens.wait(timeout=20), "the proxy does not listen"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cut()
        self._call(self._ends.set)
        self._thread.join()

    # --- what a test may do ----------------------------------------------------------------------------------

    def swallow(self, pattern: bytes, times: int = 1) -> None:
        """Lose the answers to the next questions that contain ``pattern``, and the connections with them: the server
        has done it, and who asked does not know."""
        self._pattern, self._swallows = pattern, times

    def hold(self) -> None:
        """Pass nothing on any more, in either direction, and say nothing about it: a black hole."""
        self._call(self._passes.clear)

    def forget(self) -> None:
        """Pass nothing on any more for those that are connected, and say nothing about it; others come after them."""
        self._call(self._forget)

    def release(self) -> None:
        """Pass on what was held, and all that follows."""
        self._call(self._passes.set)

    def cut(self) -> None:
        """Reset every connection; new ones are let in."""
        self._call(self._cut)

    @property
    def environ(self) -> dict[str, str]:
        """What sends a process through this door."""
        return {"POSTGRES_HOST": str(self.socket.parent)}

    @property
    def connections(self) -> int:
        """How many there are."""
        return len(self._links)

    # --- in its thread ---------------------------------------------------------------------------------------

    def _call(self, what: Callable[[], object]) -> None:
        async def run() -> None:
            what()

        asyncio.run_coroutine_threadsafe(run(), self._loop).result(timeout=20)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        server = await asyncio.start_unix_server(self._connected, self.socket)
        self._listens.set()
        await self._ends.wait()
        server.close()
        self._passes.set()
        self._cut()
        while self._links:
            await asyncio.sleep(0.001)

    def _forget(self) -> None:
        for link in self._links:
            link.passes = asyncio.Event()

    def _cut(self) -> None:
        for link in list(self._links):
            link.passes.set()
            link.cut()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Link(writer)
        self._links.add(link)
        try:
            answers, link.questions = await asyncio.open_unix_connection(self._upstream)
            done, pending = await asyncio.wait(
                [asyncio.create_task(self._ask(link, reader)), asyncio.create_task(self._answer(link, answers))],
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in [*done, *pending]:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, OSError):
                    await task
        except OSError:
            pass  # the server is away, as it may be
        finally:
            link.cut()
            self._links.discard(link)

    async def _ask(self, link: _Link, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(65_536):
            await self._passes.wait()
            await link.passes.wait()
            if self._swallows and self._pattern in data:
                self._swallows -= 1
                link.question = data
            link.send(data)

    async def _answer(self, link: _Link, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(65_536):
            await self._passes.wait()
            await link.passes.wait()
            if link.question is None:
                link.asker.write(data)
            elif READY in data[-6:]:
                self.swallowed.append(link.question)
                return


class _Link:
    """One connection, and the one behind it."""

    def __init__(self, asker: asyncio.StreamWriter) -> None:
        self.asker = asker
        self.questions: asyncio.StreamWriter | None = None
        self.question: bytes | None = None
        """That of which the answer is to be lost."""
        self.passes = asyncio.Event()
        self.passes.set()

    def send(self, data: bytes) -> None:
        if self.questions is not None:
            self.questions.write(data)

    def cut(self) -> None:
        """Without a word of farewell."""
        for writer in (self.asker, self.questions):
            if writer is not None:
                writer.transport.abort()
