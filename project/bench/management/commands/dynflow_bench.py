"""``manage.py dynflow_bench``: measure the engine on real processes and servers, beside hand-written SQL."""

from __future__ import annotations

import json
import sys
from argparse import SUPPRESS, ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from project.bench import measuring, report
from project.bench.kinds import DEFAULT_COUNTS, KINDS
from project.bench.system import BenchError
from project.servers import ServersUnavailable


class Command(BaseCommand):
    """Run one kind of measurement."""

    help = (
        "Measures on embedded servers, or in a fresh database of POSTGRES_HOST with REDIS_URL if both are set. "
        "steps: a plan of N steps side by side. chain: N steps one after the other. plans: N plans of one step. "
        "idle: nothing for N seconds. cleanup: steps beside N old plans, without and with a clean-up of them. "
        "lists: pages of the admin and the API with N old plans."
    )
    requires_system_checks = ()
    requires_migrations_checks = False

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the kind and how much of it."""
        parser.add_argument("kind", choices=KINDS)
        parser.add_argument(
            "--count", type=int, nargs="+", metavar="N", help="Steps, plans or seconds; several make columns."
        )
        parser.add_argument("--json", action="store_true", help="Print one JSON document.")
        parser.add_argument("--in-place", action="store_true", help=SUPPRESS)

    def handle(self, *args: Any, **options: Any) -> None:
        """Measure, or start a process that does, on servers made for it."""
        kind, counts = options["kind"], options["count"] or DEFAULT_COUNTS[options["kind"]]
        least = 2 if kind == "chain" else 1
        if min(counts) < least:
            raise CommandError(f"--count must be at least {least}.")
        if not options["in_place"]:
            self._elsewhere(kind, counts, as_json=options["json"])
            return
        try:
            document = measuring.measure(kind, counts, lambda text: self.stderr.write(f"{text} ..."))
        except BenchError as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt:
            sys.exit(130)
        self.stdout.write(json.dumps(document, indent=2) if options["json"] else report.text(document))

    def _elsewhere(self, kind: str, counts: list[int], *, as_json: bool) -> None:
        arguments = [kind, "--in-place", "--count", *map(str, counts), *(["--json"] if as_json else [])]
        try:
            code = measuring.in_fresh_place(arguments)
        except ServersUnavailable as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt:
            code = 130
        if code:
            sys.exit(code)
