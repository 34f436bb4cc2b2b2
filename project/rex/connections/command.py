"""What is to be executed, and how that ended."""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


class Status(StrEnum):
    """How a command ended on a host."""

    SUCCEEDED = "succeeded"
    """It ended with exit code 0."""

    FAILED = "failed"
    """It ended with another exit code, or by an OS signal."""

    TIMED_OUT = "timed_out"
    """It was killed when its time limit had passed."""

    LOST = "lost"
    """The connection was lost before its exit code was known, so it may have run, or still run."""


@dataclass(frozen=True, slots=True)
class Command:
    """A shell command, or a whole script whose first line may name its interpreter.

    ``time_limit`` is in seconds and counts from the start of the command, not of the connection.
    ``environment`` is added to what the host gives a new session. Raises ``ValueError`` for what
    no shell could run.
    """

    text: str
    script: bool = False
    time_limit: float | None = None
    environment: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        """Check the values while their author is still there to be told."""
        if not self.text.strip():
            raise ValueError("The command is empty: give it some text.")
        if self.time_limit is not None and self.time_limit <= 0:
            raise ValueError(f"The time limit is {self.time_limit}: give seconds above 0.")
        if "\0" in "".join((self.text, *self.environment.values())):
            raise ValueError("The command holds a NUL character, which no shell accepts.")
        for name in self.environment:
            if not _VARIABLE.fullmatch(name):
                raise ValueError(f"{name!r} is no name of an environment variable.")

    @property
    def interpreter(self) -> list[str]:
        """The words that run a script: those of its ``#!`` line, else ``/bin/sh``."""
        first = self.text.split("\n", 1)[0]
        return first[2:].split(maxsplit=1) if first[:2] == "#!" else ["/bin/sh"]

    @property
    def payload(self) -> bytes:
        """The text as bytes; what is no valid Unicode is replaced."""
        return self.text.encode(errors="replace")


@dataclass(frozen=True, slots=True)
class Result:
    """How a command ended; ``error`` is one line for people, empty if it succeeded.

    ``exit_code`` is 128 plus the number if an OS signal ended it, as shells count, and ``None``
    if it is not known. ``seconds`` is the time that connecting and executing took.
    """

    status: Status
    exit_code: int | None
    error: str
    seconds: float

    def as_output(self) -> dict[str, Any]:
        """Return the result as JSON values, to be the output of an action."""
        return {**asdict(self), "status": self.status.value}


class TimeLimitError(Exception):
    """The time limit had passed; the command has been killed."""


class HostError(Exception):
    """The command was not started on the host; the message is for people."""


class UnreachableError(HostError):
    """The host did not answer, or could not start anything; later it may."""


class RefusedError(HostError):
    """The host or we refused the connection for a reason that does not go away by itself, such as a wrong key."""


class ConnectionLostError(Exception):
    """The command was (or may have been) started, and how it ended will not be known."""


def signal_name(number: int) -> str:
    """Return the name of an OS signal, such as ``SIGKILL``, or its number if it has none here."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
