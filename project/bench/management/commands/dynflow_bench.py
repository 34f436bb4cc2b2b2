"""``manage.py dynflow_bench``: measure the engine on real processes and servers, beside hand-written SQL."""

from __future__ import annotations

import json
import sys
from argparse import SUPPRESS, ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from project.bench import measuring, report, svg
from project.bench.kinds import KINDS
from project.bench.limits.working import LimitError
from project.bench.system import BenchError
from project.servers import ServersUnavailable


class Command(BaseCommand):
    """Run one kind of measurement."""

    help = (
        "Measures on embedded servers, or in a fresh database of POSTGRES_HOST with REDIS_URL if both are set. "
        + " ".join(f"{name}: {kind.about}." for name, kind in KINDS.items())
    )
    requires_system_checks = ()
    requires_migrations_checks = False

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the kind and how much of it."""
        parser.add_argument("kind", choices=KINDS)
        parser.add_argument(
            "--count", type=int, nargs="+", metavar="N", help="Steps, plans, hosts or seconds; several make columns."
        )
        parser.add_argument("--runs", type=int, metavar="N", help="Runs of each; the medians count.")
        parser.add_argument("--svg", type=Path, metavar="FILE", help="Draw the result, too.")
        parser.add_argument("--json", action="store_true", help="Print one JSON document.")
        parser.add_argument("--in-place", action="store_true", help=SUPPRESS)

    def handle(self, *args: Any, **options: Any) -> None:
        """Measure, or start a process that does, on servers made for it."""
        kind = options["kind"]
        counts, runs = (
            options["count"] or KINDS[kind].counts,
            KINDS[kind].runs if options["runs"] is None else options["runs"],
        )
        least = 2 if kind == "chain" else 1
        if min(counts) < least:
            raise CommandError(f"--count must be at least {least}.")
        if runs < 1:
            raise CommandError("--runs must be at least 1.")
        if not options["in_place"]:
            self._elsewhere(options, counts, runs)
            return
        try:
            document = measuring.measure(kind, counts, runs, lambda text: self.stderr.write(f"{text} ..."))
        except (BenchError, LimitError) as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt:
            sys.exit(130)
        if options["svg"]:
            options["svg"].write_text(svg.drawn(document, KINDS[kind].plotted), encoding="utf-8")
        self.stdout.write(json.dumps(document, indent=2) if options["json"] else report.text(document))

    def _elsewhere(self, options: dict[str, Any], counts: list[int], runs: int) -> None:
        kind = options["kind"]
        arguments = [kind, "--in-place", "--count", *map(str, counts), "--runs", str(runs)]
        arguments += ["--json"] if options["json"] else []
        arguments += ["--svg", str(options["svg"].absolute())] if options["svg"] else []
        try:
            code = measuring.in_fresh_place(arguments, KINDS[kind].settings)
        except ServersUnavailable as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt:
            code = 130
        if code:
            sys.exit(code)
