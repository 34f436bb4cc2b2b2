"""A command on many hosts as a durable plan: one step per host, and a report at the end."""

from __future__ import annotations

from collections.abc import Iterable

from dynflow_app import BaseAction
from dynflow_app.actions.context import ActionRecord
from dynflow_app.states import StepState
from project.rex.connections import Command, execute
from project.rex.inventory import Host
from project.rex.models import HostResult, HostStatus, Report


class RunOnHost(BaseAction):
    """Run a command on one host.

    A host that fails or cannot be reached is a *successful step* with that status in its output:
    it is an answer, and the other hosts go on. Only a worker that dies leaves the step in error,
    for then nobody knows whether the command has run.
    """

    queue = "rex"

    async def run(self) -> None:
        """Execute; what the command prints is the log of the step, ``stderr`` marked by line."""
        host = Host.from_input(self.input["host"])
        command = Command(
            self.input["command"],
            script=self.input["script"],
            time_limit=self.input["time_limit"],
            environment=environment_of(host),
        )
        result = await execute(host, command, self._show)
        self.output.update(result.as_output())

    def _show(self, stream: str, text: str) -> None:
        if stream == "stderr":
            text = "".join(f"stderr: {line}" for line in text.splitlines(keepends=True))
        self.log(text)


class RunOnHosts(BaseAction):
    """Run a command on hosts."""

    queue = "rex"

    def plan(
        self,
        hosts: Iterable[Host],
        command: str,
        script: bool = False,
        time_limit: float | None = None,
    ) -> None:
        """Plan one step per host, all side by side; ``time_limit`` is in seconds, for each host.

        Raises ``ValueError`` for a command that no shell could run.
        """
        Command(command, script=script, time_limit=time_limit)
        for host in hosts:
            self.plan_action(
                RunOnHost,
                host=host.as_input(),
                command=command,
                script=script,
                time_limit=time_limit,
            )
        self.plan_self(command=command)

    def finalize(self) -> None:
        """Store the report; the counts by status become the output."""
        results = [_host_result(record) for record in self.planned_actions(RunOnHost)]
        report = Report.objects.store(self.plan_id, self.input["command"], results)
        self.output.update(hosts=report.hosts, counts=report.counts)


def environment_of(host: Host) -> dict[str, str]:
    """Return what a command may know of its host: ``REX_HOST``, ``REX_GROUPS`` and its variables.

    A variable ``site`` becomes ``REX_SITE``; lists and dicts, and names that are no identifiers,
    are left out.
    """
    variables = {
        f"REX_{name.upper()}": _as_text(value)
        for name, value in host.variables.items()
        if isinstance(value, str | int | float) and f"{name}".isidentifier() and name.isascii()
    }
    return {**variables, "REX_HOST": host.name, "REX_GROUPS": ",".join(host.groups)}


def _as_text(value: str | float) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text.replace("\0", "")


def _host_result(record: ActionRecord) -> HostResult:
    """Make one line of the report; a step without an output was skipped after its worker died."""
    known = record.output if record.state == StepState.SUCCESS else {}
    reason = (record.error or {}).get("message") or "its worker died, so the outcome is unknown"
    return {
        "host": record.input["host"]["name"],
        "status": known.get("status", HostStatus.LOST.value),
        "exit_code": known.get("exit_code"),
        "seconds": known.get("seconds", 0.0),
        "error": known.get("error", reason),
    }
