"""What the demo prints: stages, events, a table, a box; plain lines where nobody looks at a terminal."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Sequence
from typing import TextIO

from project.rex.presentation import PlainBar, ProgressDisplay, RichBar

GLYPHS = {"ok": "✓", "bad": "✗", "lost": "?", "warn": "!", "dot": "·"}
ASCII_GLYPHS = {"ok": "+", "bad": "x", "lost": "?", "warn": "!", "dot": "-"}
COLORS = {"ok": "32", "bad": "31", "lost": "33", "warn": "33", "dim": "2", "bold": "1"}
WIDTH = 80


class Screen:
    """Writes to one stream; knows whether it is a terminal, and whether colours and Unicode are welcome."""

    def __init__(self, stream: TextIO | None = None, *, ascii_only: bool = False) -> None:
        """Write to ``stream``, by default the standard output."""
        self.stream = stream or sys.stdout
        self.is_terminal = self.stream.isatty()
        self.ascii = ascii_only or not _can_encode(self.stream)
        self._colored = (
            self.is_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") not in {None, "dumb"}
        )
        self._lap = time.monotonic()

    @property
    def width(self) -> int:
        """Columns that a table may use."""
        return shutil.get_terminal_size((WIDTH, 24)).columns if self.is_terminal else WIDTH

    def glyph(self, name: str) -> str:
        """Return the sign for ``name``, in its colour."""
        return self.paint((ASCII_GLYPHS if self.ascii else GLYPHS)[name], name)

    def paint(self, text: str, color: str) -> str:
        """Return ``text`` in a colour, where colours are welcome."""
        return f"\x1b[{COLORS[color]}m{text}\x1b[0m" if self._colored and color in COLORS else text

    def line(self, text: str = "") -> None:
        """Write one line."""
        if self.ascii:
            text = text.replace("·", "-").encode("ascii", "replace").decode()
        print(text, file=self.stream, flush=True)

    def start_lap(self) -> None:
        """Count the seconds of the next stage from here."""
        self._lap = time.monotonic()

    def done(self, stage: str) -> None:
        """Say that a stage is done, and how long it took."""
        now = time.monotonic()
        self.line(f"  {self.glyph('ok')} {stage:<52} {now - self._lap:5.1f} s")
        self._lap = now

    def warn(self, text: str) -> None:
        """Write a line about something remarkable."""
        self.line(f"  {self.glyph('warn')} {text}")

    def columns(self, cells: Sequence[tuple[str, str]], gap: int = 3) -> None:
        """Write short texts below each other in as many columns as fit; each is a text and its colour."""
        widest = max((len(text) for text, _ in cells), default=1)
        across = max(1, (self.width - 2 + gap) // (widest + gap))
        down = -(-len(cells) // across)
        for row in range(down):
            parts = [self.paint(text.ljust(widest), color) for text, color in cells[row::down]]
            self.line("  " + (" " * gap).join(parts))

    def box(self, title: str, lines: Sequence[str]) -> None:
        """Write lines in a box; without the box where nobody looks at a terminal."""
        if self.ascii or not self.is_terminal:
            self.line(title)
            for text in lines:
                self.line(f"  {text}")
            return
        inner = max(len(text) for text in [*lines, title]) + 2
        self.line(f"┌ {title} ".ljust(inner + 1, "─") + "┐")
        for text in lines:
            self.line(f"│ {text.ljust(inner - 1)}│")
        self.line("└" + "─" * inner + "┘")

    def bar(self) -> ProgressDisplay | None:
        """Return a bar for a terminal; None where lines are better."""
        if not self.is_terminal:
            return None
        if self.ascii:
            return PlainBar(self.stream)
        try:
            return RichBar(self.stream)
        except ImportError:
            return PlainBar(self.stream)


def _can_encode(stream: TextIO) -> bool:
    try:
        "✓─".encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
