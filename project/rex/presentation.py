"""What the command shows: progress while hosts are busy, and tables of hosts and results."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol, TextIO

from project.rex.inventory import Host

MAX_LISTED = 30
"""More hosts than this are summed up by status; only those that did not succeed are listed."""

LINE_INTERVAL = 5.0
"""Seconds between two lines of progress where nobody looks at a terminal."""

BAR_WIDTH = 30


class Counts(NamedTuple):
    """Hosts by what happens to them now."""

    ended: int
    active: int
    in_error: int
    total: int

    def __str__(self) -> str:
        """Write *12 of 200 hosts done, 5 running*."""
        lost = f", {self.in_error} lost" if self.in_error else ""
        return f"{self.ended} of {self.total} hosts done, {self.active} running{lost}"


class ProgressDisplay(Protocol):
    """Shows how far a plan got."""

    def update(self, counts: Counts) -> None:
        """Show new counts."""

    def note(self, text: str) -> None:
        """Show a line that stays."""

    def close(self) -> None:
        """Show nothing more."""


class LineDisplay:
    """A line now and then, for logs and pipes."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        """Write to ``stream``; ``clock`` returns seconds."""
        self._stream, self._clock = stream, clock
        self._next = clock() + LINE_INTERVAL

    def update(self, counts: Counts) -> None:
        """Write a line if the last one is old enough."""
        if self._clock() >= self._next:
            self.note(str(counts))
            self._next = self._clock() + LINE_INTERVAL

    def note(self, text: str) -> None:
        """Write a line."""
        print(text, file=self._stream, flush=True)

    def close(self) -> None:
        """Leave the lines as they are."""


class PlainBar:
    """A bar of ASCII characters, for terminals where rich is not installed."""

    def __init__(self, stream: TextIO) -> None:
        """Write to the terminal ``stream``."""
        self._stream = stream

    def update(self, counts: Counts) -> None:
        """Draw the bar over the one before."""
        filled = BAR_WIDTH * counts.ended // max(counts.total, 1)
        bar = "#" * filled + "." * (BAR_WIDTH - filled)
        print(f"\r\x1b[K[{bar}] {counts}", end="", file=self._stream, flush=True)

    def note(self, text: str) -> None:
        """Write a line in place of the bar, which comes back below it."""
        print(f"\r\x1b[K{text}", file=self._stream, flush=True)

    def close(self) -> None:
        """Wipe the bar away."""
        print("\r\x1b[K", end="", file=self._stream, flush=True)


class RichBar:
    """A bar drawn by rich."""

    def __init__(self, stream: TextIO) -> None:
        """Write to the terminal ``stream``. Raises ``ImportError`` if rich is not installed."""
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        self._progress = Progress(*columns, console=Console(file=stream), transient=True)
        self._task = self._progress.add_task("", total=None)
        self._progress.start()

    def update(self, counts: Counts) -> None:
        """Move the bar."""
        self._progress.update(self._task, description=str(counts), completed=counts.ended, total=counts.total)

    def note(self, text: str) -> None:
        """Write a line above the bar."""
        self._progress.console.print(text, markup=False, highlight=False)

    def close(self) -> None:
        """Wipe the bar away."""
        self._progress.stop()


def progress_display(stream: TextIO) -> ProgressDisplay:
    """Choose what suits ``stream``: a bar on a terminal, a line every five seconds elsewhere."""
    if not stream.isatty():
        return LineDisplay(stream)
    try:
        return RichBar(stream)
    except ImportError:
        return PlainBar(stream)


def results_text(results: Sequence[dict[str, Any]], counts: dict[str, int]) -> str:
    """Write a table of results; of many hosts only those that did not succeed, and the counts."""
    listed = results
    if len(results) > MAX_LISTED:
        listed = [result for result in results if result["status"] != "succeeded"]
    parts = [_results_table(listed)] if listed else []
    parts.append(", ".join(f"{count} {status}" for status, count in counts.items()))
    return "\n\n".join(parts)


def hosts_text(hosts: Iterable[Host]) -> str:
    """Write a table of hosts, how they are reached and their groups."""
    rows = [(host.name, host.connection.value, f"{host.address}:{host.port}", ", ".join(host.groups)) for host in hosts]
    return _table(("HOST", "CONNECTION", "ADDRESS", "GROUPS"), rows)


def _results_table(results: Iterable[dict[str, Any]]) -> str:
    rows = [
        (
            result["host"],
            result["status"],
            "-" if result["exit_code"] is None else str(result["exit_code"]),
            f"{result['seconds']:.2f}",
            result["error"],
        )
        for result in results
    ]
    return _table(("HOST", "STATUS", "EXIT CODE", "SECONDS", "LAST ERROR"), rows)


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Align columns on the left; control characters of a host cannot disturb the terminal."""
    cells = [titles, *([_printable(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
    )


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text)
