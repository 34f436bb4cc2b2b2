"""``manage.py dynflow_executor``: orchestrator and worker in one process, without Redis."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from dynflow_app import probes
from dynflow_app.checks import require_configuration
from dynflow_app.conf import settings
from dynflow_app.inprocess.service import InProcessExecutor
from dynflow_app.models import WorldKind
from dynflow_app.processes.daemon import Daemon


class Command(BaseCommand):
    """Start the in-process executor."""

    help = "Runs plans in one process, for DYNFLOW = {'EXECUTOR': 'in-process'}."
    requires_system_checks = ()  # the database may not be up yet; the process waits for it

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("queues", nargs="*", help="Queues to serve; all if none is named.")

    def handle(self, *args: Any, **options: Any) -> None:
        require_configuration()
        if not settings.in_process:
            raise CommandError(
                "DYNFLOW['EXECUTOR'] is not 'in-process': start manage.py dynflow_orchestrator and "
                "manage.py rqworker instead, or set it."
            )
        probes.install_from_environment()
        daemon = Daemon(WorldKind.EXECUTOR, options["queues"], not_beside=list(WorldKind))
        with daemon.running():
            self.stderr.write(f"dynflow in-process executor {daemon.banner()}")
            InProcessExecutor(daemon.world, options["queues"], daemon.stop).run()
