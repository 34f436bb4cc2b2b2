"""Schedules that code declares, as rows. A process that has the code brings the rows in line with it when it starts.

What operators did to a row stays: a paused schedule is changed, but remains paused. A schedule that the code has no
more is paused, and goes on when the code has it again; one whose module this process does not have is left alone.
"""

from __future__ import annotations

import importlib.util
import logging
import sys
from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.db import IntegrityError, transaction

from dynflow_app.actions import registry
from dynflow_app.actions.base import BaseAction
from dynflow_app.conf import settings
from dynflow_app.engine.timing import Timing
from dynflow_app.exceptions import DynflowError, SealingError
from dynflow_app.models import Schedule
from dynflow_app.models.base import ledger_alias
from dynflow_app.payloads.sealing import unseal
from dynflow_app.schedules.activation import activate
from dynflow_app.schedules.validating import columns
from dynflow_app.states import ScheduleState

CODE = "code"
"""Who paused a schedule that is not declared any more."""
GONE = "The code of its action declares no schedule any more."

_log = logging.getLogger("dynflow_app.orchestrator")


def declare_schedules() -> None:
    """Bring the rows in line with what the actions that this process knows declare. One query if nothing changed."""
    if not settings.DECLARE_SCHEDULES:
        return
    declared: dict[str, dict[str, Any]] = {}
    wrong = set()
    for action_class, timing in _declaring():
        try:
            declared[registry.action_name(action_class)] = columns(action_class, timing)
        except (DynflowError, ValueError) as error:
            wrong.add(registry.action_name(action_class))
            _log.error("schedule left out: %s", error, extra={"action": "schedule_wrong"})
    rows = {row.action: row for row in Schedule.objects.filter(is_declared=True)}
    for name, wanted in declared.items():
        try:
            row = rows.get(name)
            if row is None or _differs(row, wanted) or _is_gone(row):
                _write(name, wanted)
        except SealingError as error:  # it must not keep the process from starting
            _log.error("schedule left as it is: %s", error, extra={"action": "schedule_wrong"})
    for name, row in rows.items():
        if name not in declared.keys() | wrong and row.state == ScheduleState.ACTIVE and _is_known_to_lack(name):
            _write(name, None)


def problems() -> Iterator[tuple[str, str]]:
    """What is wrong with declared schedules: name of the action, and what to do."""
    purposes: dict[str, str] = {}
    for action_class, timing in _declaring():
        name = registry.action_name(action_class)
        try:
            purpose = columns(action_class, timing)["purpose"]
        except (DynflowError, ValueError) as error:
            yield name, str(error)
        else:
            if purpose and (other := purposes.setdefault(purpose, name)) != name:
                yield name, f"Its purpose {purpose!r} is that of {other}, too; only one of them would be active."


def _declaring() -> Iterator[tuple[type[BaseAction], Timing]]:
    for action_class in registry.all_classes():
        declared = action_class.__dict__.get("schedule")  # not inherited: a subclass would be due a second time
        if declared is not None:
            yield action_class, declared


def _write(name: str, wanted: dict[str, Any] | None) -> None:
    with transaction.atomic(using=ledger_alias()):
        row = Schedule.objects.filter(is_declared=True, action=name).lock().first()
        if wanted is None:
            if row is not None and row.state == ScheduleState.ACTIVE:
                row.pause(by=CODE, reason=GONE)
            return
        if row is None:
            row = Schedule(is_declared=True)
        elif not (_differs(row, wanted) or _is_gone(row)):
            return
        if _is_gone(row):
            row.wake()
            row.changed_by = row.reason = ""
        for column, value in wanted.items():
            setattr(row, column, value)
        _save(row)


def _save(row: Schedule) -> None:
    if row.state == ScheduleState.PAUSED:
        row.save(using=ledger_alias())
        return
    try:
        with transaction.atomic(using=ledger_alias()):
            activate(row)
    except IntegrityError:  # another process was faster, or somebody has the purpose
        if Schedule.objects.filter(is_declared=True, action=row.action).exclude(pk=row.pk).exists():
            return
        row.pause(by=CODE, reason=f"Another active schedule has the purpose {row.purpose!r}.")


def _differs(row: Schedule, wanted: dict[str, Any]) -> bool:
    return any(unseal(getattr(row, column)) != unseal(value) for column, value in wanted.items())


def _is_gone(row: Schedule) -> bool:
    return row.state == ScheduleState.PAUSED and row.changed_by == CODE and row.reason == GONE


def _is_known_to_lack(name: str) -> bool:
    """Whether the action would be known here if it were there: its app is installed, and its module was loaded, or is
    no more."""
    action_class = registry.known(name)
    if action_class is not None:
        return True
    module = name.rpartition(".")[0]
    if module in sys.modules:
        return True
    if apps.get_containing_app_config(name) is None:
        return False
    try:
        return importlib.util.find_spec(module) is None
    except ImportError:
        return True
