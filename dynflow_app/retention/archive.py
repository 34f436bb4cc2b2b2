"""The archive: a file of JSON lines, compressed if its name ends in ``.gz``, that plans go to before they are deleted.

What `Archive.append` has returned from is on the disk. A crash leaves at most a torn end, of plans that were not
deleted; it is cut off when the file is opened next. So a plan may be there twice, but is never lost.
"""

from __future__ import annotations

import fcntl
import os
import zlib
from collections.abc import Iterable, Iterator
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Self

from dynflow_app.exceptions import ArchiveError
from dynflow_app.retention.records import BEGINNING

BLOCK = 64 * 1024
_GZIP = 31  # zlib's word for it
_START = BEGINNING.encode()


class Archive:
    """``with Archive("plans.jsonl.gz") as archive:`` One process at a time writes to a file."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.is_compressed = self.path.suffix == ".gz"
        self._file: FileIO | None = None

    def __enter__(self) -> Self:
        """Open the file, make it if it is not there, cut off what a crash has torn. Raises `ArchiveError`."""
        try:
            self._open()
        except OSError as error:
            self._close()
            hint = "Choose another file, or make its folder and let this user write there."
            raise ArchiveError(f"{self._cannot(error)} {hint}") from error
        except ArchiveError:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self._close()

    def append(self, pieces: Iterable[str]) -> None:
        """Write these pieces of whole lines to the disk; all of them, or none. Raises `ArchiveError`."""
        if self._file is None:
            raise ArchiveError(f"The archive {self.path} is not open; use it in a with statement.")
        before = self._file.seek(0, os.SEEK_END)
        try:
            for block in _blocks(pieces, is_compressed=self.is_compressed):
                _write(self._file, block)
            os.fsync(self._file.fileno())
        except BaseException as error:
            try:
                _cut_off(self._file, before)
            except OSError:
                self._close()  # nothing must come after a torn line; whoever opens it next cuts it off
            if isinstance(error, OSError):
                raise ArchiveError(f"{self._cannot(error)} Make room, and start again.") from error
            raise

    def _open(self) -> None:
        is_new = not self.path.exists()
        self._file = file = FileIO(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ArchiveError(
                f"Another process writes to the archive {self.path}. Wait for it, or choose another file."
            ) from error
        size = os.fstat(file.fileno()).st_size
        sound = (_sound_members if self.is_compressed else _sound_lines)(file, self.path)
        if sound < size:
            _cut_off(file, sound)
        if is_new:
            _sync_folder(self.path.parent)

    def _cannot(self, error: OSError) -> str:
        return f"The archive {self.path} cannot be written: {error.strerror or error}."

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _blocks(pieces: Iterable[str], *, is_compressed: bool) -> Iterator[bytes]:
    """`pieces` in larger blocks, or as one complete member of a gzip file."""
    coder = zlib.compressobj(wbits=_GZIP) if is_compressed else None
    block = bytearray()
    for piece in pieces:
        data = piece.encode()
        block += coder.compress(data) if coder else data
        if len(block) >= BLOCK:
            yield bytes(block)
            block.clear()
    yield bytes(block + (coder.flush() if coder else b""))


def _write(file: FileIO, data: bytes) -> None:
    while data:
        data = data[file.write(data) :]


def _cut_off(file: FileIO, size: int) -> None:
    file.truncate(size)
    os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sound_lines(file: FileIO, path: Path) -> int:
    """Up to where the lines are whole."""
    _require_ours(file.read(len(_START)), path)
    end = file.seek(0, os.SEEK_END)
    while end:
        begin = max(0, end - BLOCK)
        file.seek(begin)
        newline = file.read(end - begin).rfind(b"\n")
        if newline >= 0:
            return begin + newline + 1
        end = begin
    return 0


def _sound_members(file: FileIO, path: Path) -> int:
    """Up to where the members are whole; reads all of the file."""
    sound = read = 0
    begun = b""
    coder = zlib.decompressobj(_GZIP)
    while data := file.read(BLOCK):
        read += len(data)
        while data:
            try:
                text = coder.decompress(data)
            except zlib.error as error:
                raise ArchiveError(
                    f"The archive {path} is damaged after byte {sound}, or is no gzip file. Choose another file."
                ) from error
            begun += text[: len(_START) - len(begun)]
            _require_ours(begun, path)
            data = b""
            if coder.eof:
                data, coder = coder.unused_data, zlib.decompressobj(_GZIP)
                sound = read - len(data)
    return sound


def _require_ours(beginning: bytes, path: Path) -> None:
    if not _START.startswith(beginning[: len(_START)]):
        raise ArchiveError(f"{path} is something else than an archive of plans. Choose another file.")
