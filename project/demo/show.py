"""The course of the demo, from the first line to the exit code."""

from __future__ import annotations

import contextlib
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from project.demo.failure import DemoError, Interrupted, ignore_signals, raise_on_signals
from project.demo.options import REPOSITORY, Options, parse
from project.demo.places import ShownServers, use_environment, versions
from project.demo.screen import Screen
from project.rex.inventory import Host, InventoryError, load
from project.servers import ServersUnavailable

if TYPE_CHECKING:
    from project.demo.system import System
    from project.demo.verdict import Outcome

DEFAULT_HINT = "The full logs are in {logs}. `make clean` removes everything, then try again."


def main(arguments: list[str] | None = None) -> int:
    """Run the demo; return the exit code."""
    options = parse(arguments)
    screen = Screen(ascii_only=options.ascii)
    raise_on_signals()
    show = Show(options, screen)
    stack = contextlib.ExitStack()
    try:
        return show.run(stack)
    except Interrupted as interruption:
        screen.line()
        if show.code is None:
            screen.warn("interrupted; stopping everything")
        return 128 + interruption.number if show.code is None else show.code
    except DemoError as error:
        show.explain(error)
        return 1
    except Exception as error:
        traceback.print_exc()
        show.explain(DemoError(f"unexpected: {type(error).__name__}"))
        return 1
    finally:
        ignore_signals()
        stack.close()


class Show:
    """One run of the demo."""

    def __init__(self, options: Options, screen: Screen) -> None:
        """Prepare; starts nothing."""
        self.options, self.screen = options, screen
        self.code: int | None = None
        """The exit code, once the job has been judged."""
        self._system: System | None = None

    def run(self, stack: contextlib.ExitStack) -> int:
        """Start everything, run the job, judge it; ``stack`` stops everything later."""
        hosts = self._hosts()
        addresses = self._servers(stack)
        use_environment(self.options.home, addresses, len(hosts), kill=self.options.kill)
        self._migrate()
        system = self._start(stack, tiny=not addresses)
        if self.options.look:
            self.code = 0
            self._serve(system, None)
        outcome = self._job(system, hosts, tiny=not addresses)
        self._after(system, outcome)
        return self.code or 0

    def explain(self, error: DemoError) -> None:
        """Say what went wrong, with the ends of the logs and one hint."""
        self.screen.line()
        self._show_logs()
        self.screen.line(f"{self.screen.glyph('bad')} {error}")
        self.screen.line(error.hint or DEFAULT_HINT.format(logs=_short(self.options.home / "logs")))

    def _show_logs(self) -> None:
        for name, text in self._system.last_lines().items() if self._system else []:
            self.screen.line(f"--- the last lines of {name}")
            self.screen.line(text)

    def _hosts(self) -> list[Host]:
        try:
            return load(self.options.inventory).select(self.options.limit)
        except InventoryError as error:
            raise DemoError(str(error), "Nothing was started.") from error

    def _servers(self, stack: contextlib.ExitStack) -> dict[str, str]:
        """Start the servers; returns their addresses, none if SQLite has to do."""
        self.options.home.mkdir(parents=True, exist_ok=True)
        folder = f"folder {_short(self.options.home)}"
        self.screen.line(f"{versions(tiny=self.options.tiny)} · {folder}")
        self.screen.start_lap()
        if self.options.tiny:
            return {}
        servers = ShownServers(self.options.home, self.screen)
        try:
            servers.start()
        except ServersUnavailable as error:
            if "Another program" in str(error):
                raise DemoError(str(error), "Only one demo can run at a time.") from error
            reason = " ".join(str(error).split())
            self.screen.warn(f"no servers here, going on with SQLite and one process: {reason}")
            return {}
        stack.callback(servers.stop)
        return servers.environ

    def _migrate(self) -> None:
        import django
        from django.core.management import call_command
        from django.db import connections

        django.setup()
        call_command("migrate", verbosity=0)
        connections.close_all()
        self.screen.done("tables are up to date")

    def _start(self, stack: contextlib.ExitStack, *, tiny: bool) -> System:
        from project.demo.job import interrupted_plans
        from project.demo.system import System

        left = interrupted_plans()
        self._system = system = System(self.options.home / "logs")
        stack.callback(system.stop)
        if tiny:
            system.start_tiny()
            self.screen.done("1 process: orchestrator and worker in one")
        else:
            system.start_split()
            self.screen.done("2 workers, 2 orchestrators (1 active, 1 standby)")
        if left:
            self.screen.warn(f"{left} plan(s) of an interrupted run go on now, beside this one")
        return system

    def _job(self, system: System, hosts: list[Host], *, tiny: bool) -> Outcome:
        from project.demo import verdict
        from project.demo.job import Job
        from project.demo.progress import Sabotage

        self.screen.line()
        if self.options.kill and tiny:
            self.screen.warn("there is only one process here, so nothing is killed")
        sabotage = Sabotage(system) if self.options.kill and not tiny else None
        outcome = Job(hosts, system, self.screen, self.options.home).run(sabotage)
        verdict.show(outcome, self.screen)
        problems = outcome.problems()
        if sabotage and not (sabotage.done and outcome.hand_overs and outcome.workers_lost):
            problems.append("a worker and the active orchestrator were to be killed, and were not noticed missing")
        if outcome.workers_lost and not sabotage:
            problems.append("a worker was lost although nobody killed one")
        if problems:
            self._show_logs()
        for problem in problems[:10]:
            self.screen.line(f"  {self.screen.glyph('bad')} {problem}")
        self.code = 1 if problems else 0
        return outcome

    def _after(self, system: System, outcome: Outcome) -> None:
        from project.demo import web

        self.screen.line()
        if self.options.serve:
            self._serve(system, outcome)
        else:
            web.explain(outcome, self.screen, tiny=self.options.tiny)

    def _serve(self, system: System, outcome: Outcome | None) -> None:
        from project.demo import web

        web.serve(system, outcome, self.screen)


def _short(path: Path) -> str:
    return str(path.relative_to(REPOSITORY)) if path.is_relative_to(REPOSITORY) else str(path)
