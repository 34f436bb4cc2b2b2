"""``manage.py rex``: run a command on the hosts of an inventory and show how it ended."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, TextIO

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import OperationalError

from dynflow_app.exceptions import DynflowError
from dynflow_app.models import ExecutionPlan
from dynflow_app.states import PlanResult
from dynflow_app.triggering import TriggerOptions, trigger
from project.rex.actions import RunOnHosts
from project.rex.following import Follower, FollowTimeoutError, PlanStuckError
from project.rex.inventory import Host, InventoryError, load
from project.rex.models import Report
from project.rex.presentation import hosts_text, progress_display, results_text

EXIT_FAILED, EXIT_USAGE, EXIT_SOME_HOSTS, EXIT_TIMEOUT, EXIT_INTERRUPTED = 1, 2, 4, 7, 130


class Command(BaseCommand):
    """Run a command or a script on hosts, as a durable plan."""

    help = (
        "Run a command or a script on the hosts of an inventory. Exit code: 0 succeeded everywhere, "
        "1 the plan itself failed, 2 wrong usage, 4 some hosts did not succeed, "
        "7 the plan has not ended within --timeout."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare ``run`` and ``hosts``."""
        verbs = parser.add_subparsers(dest="verb", required=True, metavar="run|hosts")
        run = verbs.add_parser("run", help="Run a command or a script.")
        hosts = verbs.add_parser("hosts", help="List the hosts.")
        for verb in (run, hosts):
            _add_selection(verb)
        what = run.add_mutually_exclusive_group(required=True)
        what.add_argument("--command", help="Shell command to run.")
        what.add_argument("--script", type=Path, metavar="FILE", help="Script to run.")
        what.add_argument("--template", type=Path, metavar="FILE", help="Script with variables to run.")
        run.add_argument(
            "--var", type=_assignment, action="append", metavar="NAME=VALUE", help="Set an input of the template."
        )
        run.add_argument("--concurrency", type=_whole_number, metavar="N", help="At most N hosts at once.")
        run.add_argument("--time-limit", type=_seconds, metavar="S", help="Kill it after S seconds.")
        run.add_argument("--timeout", type=_seconds, metavar="S", help="Follow it for S seconds.")

    def handle(self, *args: Any, **options: Any) -> None:
        """Do what the verb says; errors are one sentence and what to do."""
        if options.get("var") and not options["template"]:
            raise CommandError("--var sets an input of a template: give --template FILE.", returncode=EXIT_USAGE)
        try:
            hosts = load(options["inventory"]).select(options["limit"])
        except InventoryError as error:
            raise CommandError(str(error), returncode=EXIT_USAGE) from error
        if options["verb"] == "hosts":
            self._list(hosts, as_json=options["json"])
            return
        try:
            self._run(hosts, options)
        except OperationalError as error:
            reason = " ".join(str(error).split())
            hint = "Start it, or correct DATABASES. A plan whose id was printed goes on by itself."
            raise CommandError(f"The database does not answer: {reason}. {hint}", returncode=EXIT_FAILED) from error

    def _run(self, hosts: list[Host], options: dict[str, Any]) -> None:
        plan = self._trigger(hosts, options)
        self._follow(plan, options["timeout"], options.get("stderr") or sys.stderr)
        self._show(plan, as_json=options["json"])

    def _list(self, hosts: list[Host], *, as_json: bool) -> None:
        listing = [host.as_input() for host in hosts]
        self.stdout.write(json.dumps(listing, indent=2) if as_json else hosts_text(hosts))

    def _trigger(self, hosts: list[Host], options: dict[str, Any]) -> ExecutionPlan:
        file = options["script"] or options["template"]
        command = options["command"] if file is None else _script_text(file)
        what = command if file is None else str(file)
        try:
            plan = trigger(
                RunOnHosts,
                hosts,
                command,
                script=file is not None,
                time_limit=options["time_limit"],
                values=dict(options["var"] or []) if options["template"] else None,
                concurrency=options["concurrency"],
                options=TriggerOptions(label=f"{what[:200]} on {len(hosts)} hosts"),
            )
        except ValueError as error:
            raise CommandError(str(error), returncode=EXIT_USAGE) from error
        except DynflowError as error:
            raise CommandError(str(error), returncode=EXIT_FAILED) from error
        self.stderr.write(f"plan {plan.pk} on {len(hosts)} hosts", self.style.NOTICE)
        return plan

    def _follow(self, plan: ExecutionPlan, timeout: float | None, stream: TextIO) -> None:
        display = progress_display(stream)
        try:
            Follower(plan, display, timeout).follow()
        except FollowTimeoutError as error:
            reason = f"Plan {plan.pk} has not ended within {timeout:g} s"
            hint = "Check that manage.py dynflow_orchestrator and manage.py rqworker rex are running."
            raise CommandError(f"{reason}. {_where(plan)} {hint}", returncode=EXIT_TIMEOUT) from error
        except PlanStuckError as error:
            reason = f"Plan {plan.pk} is paused: {error}"
            hint = "Look at it in the admin; dynflow_app.control.resume(plan) lets it go on once the cause is gone."
            raise CommandError(f"{reason}. {hint}", returncode=EXIT_FAILED) from error
        except KeyboardInterrupt as error:
            raise CommandError(f"Not followed any more. {_where(plan)}", returncode=EXIT_INTERRUPTED) from error
        finally:
            display.close()

    def _show(self, plan: ExecutionPlan, *, as_json: bool) -> None:
        report = Report.objects.filter(plan_id=plan.pk).first()
        if report is None:
            reason = f"Plan {plan.pk} ended without a report, with the result {plan.result}"
            hint = "Look at its steps in the admin."
            raise CommandError(f"{reason}. {hint}", returncode=EXIT_FAILED)
        document: dict[str, Any] = {
            "plan_id": str(plan.pk),
            "command": report.command,
            "hosts": report.hosts,
            "counts": report.totals,
            "results": report.lines,
        }
        text = results_text(document["results"], report.totals)
        self.stdout.write(json.dumps(document, indent=2) if as_json else text)
        if plan.result in (PlanResult.CANCELLED, PlanResult.ERROR):
            raise CommandError(f"Plan {plan.pk} ended with the result {plan.result}.", returncode=EXIT_FAILED)
        if not report.all_succeeded:
            sys.exit(EXIT_SOME_HOSTS)


def _add_selection(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--inventory", required=True, metavar="FILE", help="YAML or INI inventory.")
    parser.add_argument(
        "--limit",
        default="all",
        metavar="PATTERN",
        help="Hosts, groups, globs or ranges, separated by commas; a leading ! excludes.",
    )
    parser.add_argument("--json", action="store_true", help="Print one JSON document.")


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0")
    return seconds


def _whole_number(text: str) -> int:
    number = int(text) if text.isascii() and text.isdigit() else 0
    if not 0 < number < 2**31:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of hosts above 0")
    return number


def _assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=VALUE")
    return name, value


def _script_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        message = f"The script {path} is not UTF-8 text; save it as such."
        raise CommandError(message, returncode=EXIT_USAGE) from error
    except OSError as error:
        message = f"The script {path} cannot be read ({error.strerror}); check the path."
        raise CommandError(message, returncode=EXIT_USAGE) from error


def _where(plan: ExecutionPlan) -> str:
    return f"It goes on; look at plan {plan.pk} in the admin."
