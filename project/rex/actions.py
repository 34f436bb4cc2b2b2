"""A command on many hosts as durable plans: a sub-plan for each host, and a report."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from dynflow_app import BaseAction, Event, Retry, SubPlansAction
from dynflow_app.actions.sub_plans import SubPlan
from dynflow_app.exceptions import SubPlansFailedError
from dynflow_app.models import Step
from dynflow_app.states import Phase, Rescue, StepState
from project.rex.connections import Command, RefusedError, UnreachableError, execute
from project.rex.inventory import Host
from project.rex.models import HostResult, HostStatus, Report
from project.rex.templates import Template

LONGEST_LABEL = 255
NOT_STARTED = frozenset(f"{error.__module__}.{error.__qualname__}" for error in (UnreachableError, RefusedError))


class RunOnHost(BaseAction):
    """Run a command on one host.

    A command that fails is an answer, so its step succeeds, with that status in its output. A host that cannot be
    reached is tried again, then its step is skipped: the plan ends with a warning. If a worker dies, nobody knows
    whether the command has run, and the plan pauses.
    """

    queue = "rex"
    retry = Retry(attempts=3, delay=3.0, backoff=3.0, on=(UnreachableError,))

    def plan(self, result: int, host: Mapping[str, Any], command: str, script: bool, time_limit: float | None) -> None:
        """Run `command` on `host`, as ``Host.as_input`` wrote it; the `HostResult` with the key `result` tells how it
        ended. Raises ``ValueError`` for what no shell could run."""
        command_for(Host.from_input(host), command, script, time_limit)
        self.plan_self(result=result, host=dict(host), command=command, script=script, time_limit=time_limit)

    async def run(self) -> None:
        """Execute; what the command prints is the log of the step, ``stderr`` marked by line."""
        given = self.input
        host = Host.from_input(given["host"])
        command = command_for(host, given["command"], given["script"], given["time_limit"])
        result = await execute(host, command, self._show)
        self.output.update(result.as_output())

    def finalize(self) -> None:
        """Write the line of the report."""
        HostResult.objects.record(self.input["result"], self.plan_id, **self.output)

    def rescue_strategy(self) -> Rescue:  # type: ignore[override] # depends on the error
        """Hosts that cannot be reached hold nobody up; who may have run the command waits for a person."""
        return Rescue.SKIP if self._was_not_started else Rescue.PAUSE

    def on_skip(self) -> None:
        """Write the line of the report."""
        status = HostStatus.UNREACHABLE if self._was_not_started else HostStatus.LOST
        error = (self.error or {}).get("message", "")
        self.output.update(status=status.value, exit_code=None, error=error, seconds=0.0)
        self.finalize()

    @property
    def _was_not_started(self) -> bool:
        return (self.error or {}).get("class") in NOT_STARTED

    def _show(self, stream: str, text: str) -> None:
        if stream == "stderr":
            text = "".join(f"stderr: {line}" for line in text.splitlines(keepends=True))
        self.log(text)


class RunOnHosts(SubPlansAction):
    """Run a command on hosts, each in a sub-plan. The hosts are rows of the report, so there may be many."""

    queue = "rex"
    batch_size = 200

    def plan(
        self,
        hosts: Iterable[Host],
        command: str,
        script: bool = False,
        time_limit: float | None = None,
        values: Mapping[str, str] | None = None,
        concurrency: int | None = None,
    ) -> None:
        """`time_limit` is in seconds, for each host; at most `concurrency` hosts are busy at once, None for all.

        With `values`, `command` is a `Template`. Raises ``ValueError`` for a command that no shell could run, and
        ``TemplateError`` for variables that do not fit, on whatever host: before anything runs.
        """
        if concurrency is not None and concurrency < 1:
            raise ValueError(f"At most {concurrency} hosts at once is too few: give at least 1.")
        hosts, given = list(hosts), None if values is None else dict(values)
        if given is not None:
            Template(command).check(given, hosts)
        Command(command, script=script, time_limit=time_limit)
        renderer = Renderer(command, given)
        for host in hosts:
            command_for(host, renderer.text_for(host), script, time_limit)
        report = Report.objects.prepare(command, hosts)
        self.plan_self(
            report=report.pk,
            command=command,
            script=script,
            time_limit=time_limit,
            values=given,
            concurrency=concurrency,
        )

    @property
    def concurrency_limit(self) -> int | None:  # type: ignore[override] # a number per plan
        """As given."""
        limit: int | None = self.input["concurrency"]
        return limit

    def total(self) -> int:
        """The number of hosts."""
        return self._report().hosts

    def sub_plans(self, start: int, stop: int) -> Iterator[SubPlan]:
        """One for each host."""
        given = self.input
        renderer = Renderer(given["command"], given["values"])
        for result in self._report().results.filter(position__gte=start, position__lt=stop):
            yield self.sub_plan(
                RunOnHost,
                result=result.pk,
                host=result.settings,
                command=renderer.text_for(Host.from_input(result.settings)),
                script=given["script"],
                time_limit=given["time_limit"],
                label=result.host[:LONGEST_LABEL],
            )

    def run(self, event: Event | None = None) -> None:
        """As ever, except that a host that somebody cancelled is an answer, too."""
        try:
            super().run(event)
        except SubPlansFailedError:
            counts = self.sub_plan_counts()
            if counts.failed > counts.cancelled:
                raise

    def finalize(self) -> None:
        """Write the totals of the report; they become the output."""
        report = self._close()
        self.output.update(report=report.pk, hosts=report.hosts, counts=report.counts)

    def on_stopped(self) -> None:
        """The same, if the plan was cancelled or halted."""
        self._close()

    def _report(self) -> Report:
        return Report.objects.begin(self.input["report"], self.plan_id)

    def _close(self) -> Report:
        """Say *cancelled* of hosts that have told nothing, or *lost* if the plan was halted while they were busy."""
        report = self._report()
        pending = report.results.filter(status=HostStatus.PENDING)
        if pending.exists():
            begun = Step.objects.filter(
                plan__parent_step__plan=self.plan_id, plan__position__isnull=False, phase=Phase.RUN, attempt__gt=0
            ).order_by()
            for steps, status, error in (
                (begun.filter(state=StepState.CANCELLED), HostStatus.CANCELLED, "cancelled; if it ran, it was killed"),
                (begun.exclude(state=StepState.CANCELLED), HostStatus.LOST, "the plan was halted while it ran"),
            ):
                pending.filter(position__in=steps.values("plan__position")).update(status=status, error=error)
            pending.update(status=HostStatus.CANCELLED, error="cancelled before it began")
        report.close()
        return report


class Renderer:
    """Makes the text of each host's command."""

    def __init__(self, command: str, values: Mapping[str, str] | None) -> None:
        """Without `values` the command is the same everywhere."""
        self._command, self._values = command, values or {}
        self._template = None if values is None else Template(command)

    def text_for(self, host: Host) -> str:
        """What to run there."""
        return self._command if self._template is None else self._template.render(self._values, host)


def command_for(host: Host, text: str, script: bool, time_limit: float | None) -> Command:
    """The command as `host` gets it. Raises ``ValueError`` if no shell could run it."""
    return Command(text, script=script, time_limit=time_limit, environment=environment_of(host))


def environment_of(host: Host) -> dict[str, str]:
    """What a command may know of its host: ``REX_HOST``, ``REX_GROUPS`` and its variables.

    A variable ``site`` becomes ``REX_SITE``; lists and dicts, and names that are no identifiers, are left out.
    """
    variables = {f"REX_{name.upper()}": text.replace("\0", "") for name, text in host.texts.items()}
    return {**variables, "REX_HOST": host.name, "REX_GROUPS": ",".join(host.groups)}
