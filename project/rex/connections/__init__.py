"""One command on one host: locally or through SSH, streamed, limited in time, stoppable.

``await execute(host, Command("uptime"), on_output)`` returns a :class:`Result` however the command
ends. It raises :class:`HostError` if the command was not started, and when it is cancelled, after
the command has been killed.
"""

from __future__ import annotations

from project.rex.connections.command import Command, HostError, RefusedError, Result, Status, UnreachableError
from project.rex.connections.execution import execute

__all__ = ["Command", "HostError", "RefusedError", "Result", "Status", "UnreachableError", "execute"]
