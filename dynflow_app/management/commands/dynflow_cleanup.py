"""``manage.py dynflow_cleanup``: archive and delete stopped plans that are old enough."""

from __future__ import annotations

import difflib
import re
import signal
import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from types import FrameType
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from dynflow_app import probes
from dynflow_app.actions import registry
from dynflow_app.checks import require_configuration
from dynflow_app.exceptions import ArchiveError, SchemaOutdatedError
from dynflow_app.models import ExecutionPlan
from dynflow_app.processes.registration import require_schema
from dynflow_app.retention import BATCH, MOST_BATCH, REST, Archive, Cleaned, Selection, clean_up
from dynflow_app.retention.selection import rules
from dynflow_app.states import PlanResult

UNITS = {"": "days", "d": "days", "h": "hours", "m": "minutes", "w": "weeks"}
_AGE = re.compile(r"(\d+(?:\.\d+)?)([dhmw]?)")
_NOTHING = (
    "Nothing is ever old enough: KEEP_FOR is None, and no action has keep_for. Give --older-than, such as 30d, "
    "or set one of them."
)


class Command(BaseCommand):
    """Clean up."""

    help = "Deletes stopped plans that are old enough, after archiving them if asked to."
    requires_system_checks = ()  # it says itself what is missing

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--older-than", type=age, metavar="AGE",
            help="Instead of KEEP_FOR: time since they stopped, such as 30d, 12h or 2w; also instead of the keep_for "
            "of actions that are named.",
        )  # fmt: skip
        parser.add_argument(
            "--action", nargs="+", default=[], metavar="NAME", help="Plans of these entry actions only."
        )
        parser.add_argument(
            "--result", nargs="+", default=[], choices=sorted(set(PlanResult.values) - {"pending"}),
            help="Plans that ended like this only.",
        )  # fmt: skip
        parser.add_argument(
            "--archive", metavar="FILE",
            help="Append the plans to this file of JSON lines before; compressed if its name ends in .gz.",
        )  # fmt: skip
        parser.add_argument(
            "--batch", type=_number(MOST_BATCH), default=BATCH, help=f"Plans per transaction; {BATCH} if not given."
        )
        parser.add_argument("--limit", type=_number(), help="At most so many plans, their sub-plans not counted.")
        parser.add_argument(
            "--rest", type=_factor, default=REST, metavar="FACTOR",
            help=f"Sleep after each batch, so many times as long as it took; {REST:g} if not given, 0: never.",
        )  # fmt: skip
        parser.add_argument("--dry-run", action="store_true", help="Count what would go, and leave it.")
        parser.add_argument("--quiet", action="store_true", help="Say nothing but errors.")

    def handle(self, *args: Any, **options: Any) -> None:
        require_configuration()
        probes.install_from_environment()
        say = (lambda text: None) if options["quiet"] or not options["verbosity"] else self.stdout.write
        total = Cleaned()
        try:
            require_schema()
            selection = Selection(
                older_than=options["older_than"],
                actions=tuple(options["action"]),
                results=tuple(options["result"]),
            )
            _require_actions(selection.actions)
            if not rules(selection):
                say(_NOTHING)
            archive = Archive(options["archive"]) if options["archive"] and not options["dry_run"] else nullcontext()
            with _until_told() as told, archive as opened:
                for cleaned in clean_up(
                    selection,
                    archive=opened,
                    batch=options["batch"],
                    limit=options["limit"],
                    rest=options["rest"],
                    dry_run=options["dry_run"],
                ):
                    _add(total, cleaned)
                    if told:
                        break
        except (ArchiveError, SchemaOutdatedError) as error:
            raise CommandError(f"{error}{_so_far(total)}") from error
        except DatabaseError as error:
            raise CommandError(f"The database refuses: {str(error).strip()}{_so_far(total)}") from error
        for line in _report(total, options):
            say(line)
        if told:
            self.stderr.write("Stopped early, as told. Start it again for the rest.")
            sys.exit(128 + told[0])


def age(text: str) -> timedelta:
    """``30d``, ``12h``, ``90m``, ``2w``; a number alone counts days."""
    found = _AGE.fullmatch(text)
    if found is None:
        raise ArgumentTypeError(f"{text!r} is no age; write a number and d, h, m or w, such as 30d")
    try:
        return timedelta(**{UNITS[found[2]]: float(found[1])})
    except OverflowError:
        return timedelta.max


def _number(most: int | None = None) -> Any:
    def number(text: str) -> int:
        if not text.isdecimal() or not 1 <= int(text) <= (most or sys.maxsize):
            raise ArgumentTypeError(f"{text!r}; give a whole number from 1" + (f" to {most:,}" if most else ""))
        return int(text)

    return number


def _factor(text: str) -> float:
    if not re.fullmatch(r"\d+(\.\d+)?", text):
        raise ArgumentTypeError(f"{text!r}; give a number from 0")
    return float(text)


def _require_actions(names: Sequence[str]) -> None:
    """Each is an action class, or was one: then the ledger still has plans of it."""
    for name in names:
        if registry.known(name) is None and not ExecutionPlan.objects.filter(action=name).exists():
            every = [registry.action_name(each) for each in registry.all_classes()]
            near = [each for each in every if each.rpartition(".")[2] == name.rpartition(".")[2]]
            near = near or difflib.get_close_matches(name, every, n=1)
            raise CommandError(
                f"There is no action {name!r}, and no plan of it."
                + (f" Did you mean {near[0]}?" if near else " Give module and class, as plans in the admin show them.")
            )


@contextmanager
def _until_told() -> Iterator[list[int]]:
    """Fills the list at SIGTERM or the first Ctrl-C; the second ends the process."""
    told: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        told.append(number)
        signal.signal(number, before[number])

    before: dict[int, Any] = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number in before:
            signal.signal(number, note)
    except ValueError:  # not the main thread, which alone gets signals
        before.clear()
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _add(total: Cleaned, cleaned: Cleaned) -> None:
    total.plans += cleaned.plans
    total.sub_plans += cleaned.sub_plans
    total.limits += cleaned.limits


def _so_far(total: Cleaned) -> str:
    number = total.plans.total()
    return f" {number:,} plans had been deleted before that." if number else ""


def _report(total: Cleaned, options: dict[str, Any]) -> Iterator[str]:
    if options["dry_run"] or options["verbosity"] > 1:
        for (action, result), number in sorted(total.plans.items()):
            yield f"{number:>9,}  {result:<9}  {action}"
    verb = "Would delete" if options["dry_run"] else "Deleted"
    number = total.plans.total()
    sentence = f"{verb} {number:,} {'plan' if number == 1 else 'plans'}"
    if total.sub_plans:
        sentence += f" and {total.sub_plans:,} of their sub-plans"
    if total.limits:
        sentence += f", and {total.limits:,} unused {'limit' if total.limits == 1 else 'limits'}"
    if options["archive"] and number and not options["dry_run"]:
        sentence += f"; they are in {options['archive']}"
    yield f"{sentence}."
