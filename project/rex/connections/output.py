"""What a command prints, from bytes as they come to text in whole lines."""

from __future__ import annotations

import codecs
from collections.abc import Callable

OnOutput = Callable[[str, str], None]
"""Called with the stream, ``stdout`` or ``stderr``, and a text of one or more lines."""

MAX_LINE = 8 * 1024
"""Characters of an unfinished line that are held back before it is passed on in pieces."""

MAX_STREAM = 1024 * 1024
"""Characters of one stream that are passed on; a command that prints more is read but not kept."""

MAX_ERROR = 300
"""Characters of the last line that may serve as the error of a result."""


class OutputStream:
    """One stream of a command: decodes, passes whole lines on, and remembers the last one."""

    def __init__(self, name: str, on_output: OnOutput) -> None:
        """Pass on to ``on_output`` under ``name``."""
        self.name, self.last_line = name, ""
        self._on_output, self._left = on_output, MAX_STREAM
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._pending: list[str] = []
        self._held = 0

    def feed(self, data: bytes, final: bool = False) -> None:
        """Take ``data``, which may end in the middle of a character or line.

        What PostgreSQL refuses to store, the NUL character, becomes a replacement character.
        """
        text = self._decode(data, final).replace("\0", "\ufffd")
        lines, newline, rest = text.rpartition("\n")
        if newline:
            self._hold(lines + newline)
            self._flush()
        self._hold(rest)
        if final or self._held > MAX_LINE:
            self._flush()

    def close(self) -> None:
        """Pass on what is left of an unfinished line."""
        self.feed(b"", final=True)

    def _hold(self, text: str) -> None:
        if text:
            self._pending.append(text)
            self._held += len(text)

    def _flush(self) -> None:
        text = "".join(self._pending)
        self._pending.clear()
        self._held = 0
        if text.strip():
            self.last_line = text.rstrip().rpartition("\n")[2].strip()[-MAX_ERROR:]
        self._emit(text)

    def _emit(self, text: str) -> None:
        if not text or self._left <= 0:
            return
        self._left -= len(text)
        if self._left <= 0:
            text = f"{text[: self._left] if self._left else text}\n[more output was not kept]\n"
        self._on_output(self.name, text)


class Output:
    """Both streams of a command."""

    def __init__(self, on_output: OnOutput) -> None:
        """Pass both on to ``on_output``."""
        self.stdout = OutputStream("stdout", on_output)
        self.stderr = OutputStream("stderr", on_output)

    def close(self) -> None:
        """Pass on what is left of unfinished lines."""
        self.stdout.close()
        self.stderr.close()
