"""Whether a schedule can work: its action, its arguments and its times. For rows that people make."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ValidationError

from dynflow_app.actions import registry
from dynflow_app.actions.base import BaseAction
from dynflow_app.actions.schemas import check_input
from dynflow_app.engine.timing import Cron, Every, Timing
from dynflow_app.exceptions import DynflowError, PlanningError
from dynflow_app.models import Schedule
from dynflow_app.payloads.arguments import encode
from dynflow_app.payloads.sealing import unseal
from dynflow_app.planning import queue_of

_LONGEST = 255


def columns(action_class: type[BaseAction], timing: Timing) -> dict[str, Any]:
    """The columns of a schedule of this class. Raises `DynflowError` and ValueError for what cannot be stored."""
    given: object = timing  # users' may be anything
    if not isinstance(given, (Every, Cron)):
        raise ValueError(f"schedule = {given!r}: give Every(...) or Cron(...).")
    timing.check()
    if len(timing.purpose) > _LONGEST:
        raise ValueError(f"purpose: text of at most {_LONGEST} characters.")
    found: dict[str, Any] = {
        "action": registry.action_name(action_class),
        "input": stored_input(action_class, timing.input),
        "queue": queue_of(action_class),
        "every": timing.interval if isinstance(timing, Every) else None,
        "cron": timing.line if isinstance(timing, Cron) else "",
        "time_zone": timing.tz if isinstance(timing, Cron) else "UTC",
        "overlap": timing.overlap,
        "missed": timing.missed,
        "window": timing.window,
        "jitter": timing.jitter,
        "ends_at": timing.end,
        "limit": timing.limit,
        "purpose": timing.purpose,
    }
    if timing.start is not None:
        found["starts_at"] = timing.start
    return found


def stored_input(action_class: type[BaseAction], given: object) -> dict[str, Any]:
    """The stored form of named arguments of ``plan()``. Raises `DynflowError` if they do not fit."""
    if not isinstance(given, Mapping) or not all(isinstance(key, str) for key in given):
        raise PlanningError(f"The input is {given!r}. Give an object with the named arguments of plan().")
    try:
        inspect.signature(action_class.plan).bind(None, **given)
    except TypeError as error:
        raise PlanningError(f"plan() of {action_class.__name__}: {error}.") from None
    if action_class.plan is BaseAction.plan:
        check_input(action_class, dict(given))
    stored: dict[str, Any] = encode((), given, sensitive=action_class.sensitive)["kwargs"]
    return stored


def require_valid(schedule: Schedule) -> None:
    """Complete the columns that follow from others. Raises ValidationError with a message for each wrong column."""
    wrong: dict[str, str] = {}
    action_class = registry.known(schedule.action)
    if action_class is None:
        wrong["action"] = f"This process knows no action {schedule.action!r}."
    else:
        try:
            schedule.input = stored_input(action_class, unseal(schedule.input))
            schedule.queue = queue_of(action_class)
        except DynflowError as error:
            wrong["input"] = str(error)
    if (schedule.every is None) == (not schedule.cron):
        wrong["cron"] = "Give either a cron line or the distance from one due time to the next."
    else:
        try:
            schedule.timing.check()
        except ValueError as error:
            wrong["every" if schedule.every is not None else "cron"] = str(error)
    if wrong:
        raise ValidationError({name: [message] for name, message in wrong.items()})
