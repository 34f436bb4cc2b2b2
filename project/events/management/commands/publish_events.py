"""``manage.py publish_events 5000``: puts messages on the bus, for trying out."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from project.events.bus import Bus

BATCH = 500


class Command(BaseCommand):
    """Publish numbered messages."""

    help = "Puts numbered messages on the bus."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("number", type=int, help="How many.")

    def handle(self, *args: Any, **options: Any) -> None:
        bus = Bus()
        for start in range(0, options["number"], BATCH):
            numbers = range(start, min(start + BATCH, options["number"]))
            bus.publish(*({"number": str(number)} for number in numbers))
        self.stdout.write(f"{options['number']} messages published")
