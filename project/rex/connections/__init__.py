"""One command on one host: locally or through SSH, streamed, limited in time, stoppable.

``await execute(host, Command("uptime"), on_output)`` returns a :class:`Result` whatever happens
on the host. It raises only when it is cancelled, after the command has been killed.
"""

from __future__ import annotations

from project.rex.connections.command import Command, Result, Status
from project.rex.connections.execution import execute

__all__ = ["Command", "Result", "Status", "execute"]
