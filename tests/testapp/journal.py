"""The journal: what actions did, in a file outside the database, shared by all threads and processes of a test.

A line is appended with one ``write`` on a descriptor opened with O_APPEND, so concurrent writers never mix and nothing
that a database rolls back is forgotten. Beside it, empty files switch actions to fail.
"""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "TESTAPP_FOLDER"


class BrokenError(Exception):
    """Raised by an action that a test told to fail."""


class Journal:
    """The journal in one folder."""

    def __init__(self, folder: Path | None = None) -> None:
        """Without `folder`: the one named by the environment, as in actions."""
        self.folder = folder or Path(os.environ[VARIABLE])

    @property
    def lines(self) -> list[str]:
        """Everything that was done, oldest first."""
        try:
            return (self.folder / "journal").read_text().splitlines()
        except FileNotFoundError:
            return []

    def write(self, line: str) -> None:
        """Append a line."""
        descriptor = os.open(self.folder / "journal", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, f"{line}\n".encode())
        finally:
            os.close(descriptor)

    def break_(self, *deeds: str) -> None:
        """From now on the deeds (such as ``run a``) fail."""
        for deed in deeds:
            (self.folder / f"broken {deed}").touch()

    def repair(self, *deeds: str) -> None:
        """From now on the deeds succeed."""
        for deed in deeds:
            (self.folder / f"broken {deed}").unlink()

    def do(self, deed: str) -> None:
        """Record a deed; raises BrokenError afterwards if it is to fail."""
        self.write(deed)
        if (self.folder / f"broken {deed}").exists():
            raise BrokenError(f"{deed} is broken")
