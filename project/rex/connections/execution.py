"""The one way to execute a command, whatever the connection."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from project.rex.connections.command import (
    Command,
    ConnectionLostError,
    Result,
    Status,
    TimeLimitError,
    signal_name,
)
from project.rex.connections.limits import slot
from project.rex.connections.output import OnOutput, Output
from project.rex.inventory import Connection, Host

Runner = Callable[[Host, Command, Output], Awaitable[int]]
"""Runs a command to its end and returns the exit code, negative for an OS signal."""


async def execute(host: Host, command: Command, on_output: OnOutput) -> Result:
    """Execute ``command`` on ``host`` and return how it ended.

    What it prints goes to ``on_output`` as it comes. Waits while too many others run. Raises
    ``HostError`` if the command was not started, and ``CancelledError`` when cancelled, after the
    command and everything that it started in its process group has been killed.
    """
    async with slot(host.connection):
        started, output = time.monotonic(), Output(on_output)
        try:
            status, exit_code, error = await _outcome(host, command, output)
        finally:
            output.close()
        if exit_code:
            exit_code, error = _explained(exit_code, output)
        return Result(status, exit_code, error, round(time.monotonic() - started, 3))


async def _outcome(host: Host, command: Command, output: Output) -> tuple[Status, int | None, str]:
    try:
        exit_code = await _runner(host)(host, command, output)
    except TimeLimitError:
        return Status.TIMED_OUT, None, f"killed after its time limit of {command.time_limit:g} s"
    except ConnectionLostError as lost:
        return Status.LOST, None, str(lost)
    return Status.FAILED if exit_code else Status.SUCCEEDED, exit_code, ""


def _runner(host: Host) -> Runner:
    """Choose by connection; the SSH library is imported by the first host that needs it."""
    if host.connection is Connection.LOCAL:
        from project.rex.connections.local import run_locally

        return run_locally
    from project.rex.connections.ssh import run_through_ssh

    return run_through_ssh


def _explained(exit_code: int, output: Output) -> tuple[int, str]:
    """Return the exit code as shells count it, and the likeliest reason."""
    if exit_code < 0:
        return 128 - exit_code, f"killed by {signal_name(-exit_code)}"
    return exit_code, output.stderr.last_line or f"exit code {exit_code}"
