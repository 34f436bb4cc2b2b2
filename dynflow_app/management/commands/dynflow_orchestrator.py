"""``manage.py dynflow_orchestrator``: decides what runs and when. Start two: one leads, one stands by."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from dynflow_app import probes
from dynflow_app.checks import require_configuration
from dynflow_app.conf import settings
from dynflow_app.models import WorldKind
from dynflow_app.orchestrator.service import Orchestrator
from dynflow_app.processes.daemon import Daemon

NOT_LEADING = 75


class Command(BaseCommand):
    """Start an orchestrator."""

    help = "Decides what runs when. Exactly one leads; others stand by and take over."
    requires_system_checks = ()  # the database may not be up yet; the process waits for it

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--no-standby", action="store_true", help=f"Leave with exit code {NOT_LEADING} if another leads."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        require_configuration()
        if settings.in_process:
            raise CommandError(
                "DYNFLOW['EXECUTOR'] is 'in-process': start manage.py dynflow_executor instead, or set it to 'rq'."
            )
        probes.install_from_environment()
        daemon = Daemon(WorldKind.ORCHESTRATOR, [], not_beside=[WorldKind.EXECUTOR])
        with daemon.running():
            self.stderr.write(f"dynflow orchestrator {daemon.banner()}")
            if not Orchestrator(daemon.stop, standby=not options["no_standby"]).run():
                self.stderr.write("Another orchestrator leads.")
                sys.exit(NOT_LEADING)
