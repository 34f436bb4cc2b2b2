"""System checks: what is wrong with the configuration, and what to do about it.

Those tagged ``dynflow_network`` open connections and run only when asked for
(``manage.py check --deploy --tag dynflow_network``); so does the one that asks the database
(``manage.py check --deploy --database default``). W010 looks into the database if it can.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any, get_type_hints

from django.apps import apps
from django.conf import settings as django_settings
from django.core import checks
from django.core.checks import CheckMessage, Error, Tags
from django.core.checks import Warning as CheckWarning
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError
from django.db import DatabaseError, connections, transaction
from django.db.models import Exists, OuterRef, QuerySet

from dynflow_app import transport
from dynflow_app.actions import registry
from dynflow_app.conf import IN_PROCESS, KNOWN_KEYS, RQ, Defaults, settings, unknown_key_message
from dynflow_app.exceptions import SchemaOutdatedError
from dynflow_app.models import Action, ExecutionPlan, Step
from dynflow_app.models.base import ledger_alias
from dynflow_app.processes.registration import require_schema
from dynflow_app.schedules.declaring import problems as schedule_problems
from dynflow_app.states import COUNTED_PHASES, TERMINAL_STEP_STATES
from dynflow_app.transport.base import TransportError

NETWORK = "dynflow_network"
MOST_NAMES = 100
SHOWN_PLANS = 3
Check = Callable[..., list[CheckMessage]]


def register() -> None:
    """Register every check."""
    checks.register(check_settings, "dynflow")
    for check in (check_queues, check_actions, check_schedules, check_vendor, check_time_zones, check_plans_in_flight):
        checks.register(_if_readable(check), "dynflow")
    checks.register(_if_readable(check_redis), NETWORK, deploy=True)
    # Without deploy it would forbid "migrate" itself.
    checks.register(_if_readable(check_schema), Tags.database, deploy=True)


def _if_readable(check: Check) -> Check:
    """`check`, silent while ``DYNFLOW`` itself is wrong: reading it would raise."""

    @functools.wraps(check)
    def checked(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
        return [] if check_settings(app_configs) else check(app_configs, **kwargs)

    return checked


def require_configuration() -> None:
    """Raise CommandError for the first error in ``DYNFLOW`` or ``RQ_QUEUES``; asks no server."""
    for found in check_settings(None) or check_queues(None):
        if isinstance(found, Error):
            raise CommandError(f"{found.msg} {found.hint} ({found.id})")


def check_settings(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """E001, E002: keys and values of ``DYNFLOW``."""
    given = getattr(django_settings, "DYNFLOW", {})
    if not isinstance(given, dict):
        return [Error("DYNFLOW is not a dictionary.", hint="Write DYNFLOW = {}.", id="dynflow_app.E002")]
    known = {key: given[key] for key in given.keys() & KNOWN_KEYS}
    found = [*_unknown_keys(given), *_bad_values(known)]
    return found or list(_bad_pairs())


def _unknown_keys(given: dict[str, Any]) -> Iterator[CheckMessage]:
    for key in sorted(map(str, given.keys() - KNOWN_KEYS)):
        yield Error(
            unknown_key_message(key),
            hint=f"Known settings: {', '.join(sorted(KNOWN_KEYS))}.",
            id="dynflow_app.E001",
        )


def _bad_values(given: dict[str, Any]) -> Iterator[CheckMessage]:
    for key, value in sorted(given.items()):
        expected = _expectation(key, value)
        if expected:
            shown = "wrong" if key == "ENCRYPTION_KEYS" else repr(value)  # keys are secrets
            yield Error(f"DYNFLOW[{key!r}] is {shown}.", hint=f"It must be {expected}.", id="dynflow_app.E002")


def _bad_pairs() -> Iterator[CheckMessage]:
    for small, big, times in (("LEASE_RENEW_INTERVAL", "LEASE", 2), ("HEARTBEAT_INTERVAL", "WORLD_TIMEOUT", 3)):
        if getattr(settings, small) * times > getattr(settings, big):
            yield Error(
                f"DYNFLOW[{small!r}] is {getattr(settings, small)}, too long for {big} = {getattr(settings, big)}.",
                hint=f"{big} must be at least {times} times {small}: one missed beat must not cost it.",
                id="dynflow_app.E002",
            )


def _expectation(key: str, value: Any) -> str:
    """What `key` must be, if `value` is not that."""
    if key == "EXECUTOR":
        return "" if value in (RQ, IN_PROCESS) else f"{RQ!r} or {IN_PROCESS!r}"
    kind = get_type_hints(Defaults)[key]
    if kind in (str, bool):
        return "" if isinstance(value, kind) else "text" if kind is str else "True or False"
    if kind == tuple[str, ...]:
        is_texts = isinstance(value, (tuple, list)) and all(isinstance(each, str) for each in value)
        return "" if is_texts else "a tuple of text"
    if value is None:
        return "" if type(None) in getattr(kind, "__args__", ()) else "a number"
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not value > 0:  # NaN is neither
        return "a number above zero"
    return "" if kind in (float, float | None) or isinstance(value, int) else "a whole number above zero"


def check_queues(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """E003, E004, E009, W009: what RQ needs."""
    if settings.in_process:
        return []
    queues: dict[str, Any] = getattr(django_settings, "RQ_QUEUES", {})
    found: list[CheckMessage] = []
    if not apps.is_installed("django_rq"):
        hint = "Add 'django_rq' to INSTALLED_APPS: it brings manage.py rqworker. The orchestrator works without."
        found.append(CheckWarning("django_rq is not installed.", hint=hint, id="dynflow_app.W009"))
    if not queues:
        return [
            Error(
                "RQ_QUEUES is missing.",
                hint="Add 'django_rq' to INSTALLED_APPS and RQ_QUEUES = {'default': {'URL': ...}, "
                "'dynflow_orchestrator': {'URL': ...}}, or set DYNFLOW = {'EXECUTOR': 'in-process'}.",
                id="dynflow_app.E003",
            )
        ]
    for key in ("DEFAULT_QUEUE", "ORCHESTRATOR_QUEUE"):
        name = getattr(settings, key)
        if name not in queues:
            found.append(_unknown_queue(f"DYNFLOW[{key!r}]", name, queues, "dynflow_app.E004"))
    for name, options in queues.items():
        if not isinstance(options, dict):
            found.append(
                Error(
                    f"RQ_QUEUES[{name!r}] is {options!r}.",
                    hint="Write a dictionary, such as {'URL': 'redis://localhost:6379/0'}.",
                    id="dynflow_app.E003",
                )
            )
        elif options.get("ASYNC") is False:
            found.append(
                Error(
                    f"The queue {name!r} runs jobs synchronously (ASYNC is off).",
                    hint="Steps must not run where they are triggered; remove ASYNC from RQ_QUEUES.",
                    id="dynflow_app.E009",
                )
            )
    return found


def _unknown_queue(who: str, name: str, queues: dict[str, Any], check_id: str) -> Error:
    near = difflib.get_close_matches(name, queues, n=1)
    return Error(
        f"{who} names the queue {name!r}, which RQ_QUEUES does not have.",
        hint=(f"Did you mean {near[0]!r}? " if near else "") + f"Known queues: {', '.join(sorted(queues))}.",
        id=check_id,
    )


def check_actions(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """E005: queues of actions."""
    if settings.in_process:
        return []
    queues: dict[str, Any] = getattr(django_settings, "RQ_QUEUES", {})
    known = transport.known_queues() or ()
    return [
        _unknown_queue(registry.action_name(action), action.queue, queues, "dynflow_app.E005")
        for action in registry.all_classes()
        if queues and action.queue is not None and action.queue not in known
    ]


def check_schedules(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """E007: schedules that actions declare."""
    return [
        Error(f"The schedule of {name} cannot work.", hint=what, id="dynflow_app.E007")
        for name, what in schedule_problems()
    ]


def check_vendor(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """E010, W001, W008: the ledger's database."""
    connection = connections[ledger_alias()]
    if connection.vendor not in ("postgresql", "sqlite"):
        return [
            Error(
                f"The ledger cannot live in {connection.display_name}.",
                hint="Use PostgreSQL, or SQLite for a start; a database router may send dynflow_app there.",
                id="dynflow_app.E010",
            )
        ]
    if connection.vendor != "sqlite":
        return []
    found: list[CheckMessage] = []
    if not django_settings.DEBUG and not settings.in_process:
        problem = "The ledger is in SQLite, which has one writer at a time."
        hint = "Use PostgreSQL, or DYNFLOW = {'EXECUTOR': 'in-process'} for a small installation."
        found.append(CheckWarning(problem, hint=hint, id="dynflow_app.W001"))
    if connection.settings_dict["OPTIONS"].get("transaction_mode", "").upper() != "IMMEDIATE":
        found.append(
            CheckWarning(
                "SQLite's transactions begin without the right to write, so they fail when two write at once.",
                hint="Add 'transaction_mode': 'IMMEDIATE' to the OPTIONS of the database.",
                id="dynflow_app.W008",
            )
        )
    return found


def check_time_zones(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """W004: aware times."""
    if django_settings.USE_TZ:
        return []
    hint = "Set USE_TZ = True: times in the ledger need a zone."
    return [CheckWarning("USE_TZ is off.", hint=hint, id="dynflow_app.W004")]


def check_plans_in_flight(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """W010: actions of plans in flight that this code cannot run. Silent if the database cannot tell."""
    if all(each.__module__.startswith("dynflow_app.") for each in registry.all_classes()):  # an orchestrator's settings
        return []
    connection = connections[ledger_alias()]
    was_open = connection.connection is not None
    try:
        with transaction.atomic(connection.alias) if connection.in_atomic_block else nullcontext():
            return [*_missing_classes(), *_missing_phases()]
    except Exception:  # no server, no tables yet, older tables, tests without a database: none of them is our business
        return []
    finally:
        if not was_open:  # a worker forks after its checks, and must not share a connection
            connection.close()


def _missing_classes() -> Iterator[CheckMessage]:
    live = ExecutionPlan.objects.live()
    known = [registry.action_name(action) for action in registry.all_classes()]
    unknown = Action.objects.filter(plan__in=live).exclude(name__in=known).order_by("name")
    for name in unknown.values_list("name", flat=True).distinct()[:MOST_NAMES]:
        plans = live.filter(Exists(Action.objects.filter(plan=OuterRef("pk"), name=name)))
        yield _cannot_run(name, "this code does not have it", plans)


def _missing_phases() -> Iterator[CheckMessage]:
    live = ExecutionPlan.objects.live()
    left = Step.objects.filter(plan__in=live, phase__in=COUNTED_PHASES).exclude(state__in=TERMINAL_STEP_STATES)
    pairs = left.order_by().values_list("action__name", "phase").distinct()
    lacking = [pair for pair in pairs if (known := registry.known(pair[0])) and not known.has_phase(pair[1])]
    for name, phase in sorted(lacking)[:MOST_NAMES]:
        plans = live.filter(Exists(left.filter(plan=OuterRef("pk"), action__name=name, phase=phase)))
        yield _cannot_run(name, f"it has no {phase}() any more, which steps still need", plans)


def _cannot_run(name: str, why: str, plans: QuerySet[ExecutionPlan]) -> CheckWarning:
    number = plans.count()
    ids = ", ".join(str(plan) for plan in plans.order_by("pk").values_list("pk", flat=True)[:SHOWN_PLANS])
    return CheckWarning(
        f"{number} {'plan' if number == 1 else 'plans'} in flight cannot run {name}: {why}.",
        hint=f"Deploy it again, or cancel its plans: {ids}{', …' if number > SHOWN_PLANS else '.'}",
        id="dynflow_app.W010",
    )


def check_redis(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """E101: the Redis that carries the bells and the lease."""
    if any(isinstance(found, Error) for found in check_queues(app_configs)):
        return []  # those say more
    try:
        transport.get().check()
    except (TransportError, ImproperlyConfigured) as error:
        return [Error(str(error), hint="Start it, or correct RQ_QUEUES.", id="dynflow_app.E101")]
    return []


def check_schema(app_configs: Any, databases: Sequence[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """E105: migrations."""
    if not databases or ledger_alias() not in databases:
        return []
    try:
        require_schema()
    except SchemaOutdatedError as error:
        return [Error(str(error), hint="manage.py migrate dynflow_app", id="dynflow_app.E105")]
    except DatabaseError as error:
        return [Error(f"The database does not answer: {error}", hint="Start it.", id="dynflow_app.E105")]
    return []
