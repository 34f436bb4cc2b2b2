"""How times, durations, sizes, names and JSON read in the console."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.template.defaultfilters import filesizeformat
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.translation import gettext as _

from dynflow_app import clock
from dynflow_app.actions import registry
from dynflow_app.models import ExecutionPlan
from dynflow_app.payloads.masking import masked
from dynflow_app.states import TERMINAL_STEP_STATES

EMPTY = "–"  # noqa: RUF001 - a dash, as the templates have it
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def duration(seconds: float) -> str:
    """The two largest units: *2 h 5 min*. Clocks of two machines may differ, so less than nothing is nothing."""
    seconds = max(seconds, 0.0)
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    largest = next(n for n, (size, _unit) in enumerate(_UNITS) if whole >= size)
    parts = []
    for size, unit in _UNITS[largest : largest + 2]:
        if whole >= size:
            parts.append(f"{whole // size} {unit}")
            whole %= size
    return " ".join(parts)


def between(started: datetime | None, ended: datetime | None) -> str:
    """How long something took, or has been taking."""
    if started is None:
        return EMPTY
    return duration(((ended or clock.now()) - started).total_seconds())


def moment(value: datetime | None) -> str:
    """How long ago, with the exact time on hovering."""
    if value is None:
        return EMPTY
    local = timezone.localtime(value)
    seconds = (clock.now() - value).total_seconds()
    text = _("in %s") % duration(-seconds) if seconds < 0 else _("%s ago") % duration(seconds)
    exact = f"{date_format(local, 'Y-m-d H:i:s')} {local.tzname()}"
    return format_html('<time datetime="{}" title="{}">{}</time>', local.isoformat(), exact, text)


def size(count: int | None) -> str:
    """A number of bytes."""
    return EMPTY if count is None else filesizeformat(count)


def pretty(value: Any) -> str:
    """JSON for reading, secrets masked. Not escaped: the template does."""
    return json.dumps(masked(value), indent=2, ensure_ascii=False)


def class_name(action: str) -> str:
    """The class without its module."""
    return action.rpartition(".")[2]


def sentence(action: str) -> str:
    """What an action does: the first line of its class's docstring, or its name."""
    known = registry.known(action)
    doc = inspect.cleandoc(known.__doc__) if known is not None and known.__doc__ else ""
    return doc.partition("\n")[0].rstrip(".") or class_name(action)


def title(plan: ExecutionPlan) -> str:
    """What people call a plan."""
    return plan.label or sentence(plan.action)


def short_id(plan: ExecutionPlan) -> str:
    """Enough of the id to find the plan again: its first two groups say when it was made, to the millisecond."""
    return str(plan.pk)[:13]


def done(counts: Mapping[str, int]) -> int:
    """How many steps have ended."""
    return sum(counts.get(state, 0) for state in TERMINAL_STEP_STATES)


def progress(counts: Mapping[str, int], share: float) -> str:
    """A bar that is full to a `share` from 0 to 1, and how many steps ended: *34 / 60*."""
    total = sum(counts.values())
    if not total:
        return EMPTY
    return format_html(
        '<span class="dynflow-progress"><progress max="1" value="{}" aria-label="{}"></progress> {} / {}</span>',
        f"{share:.4g}",
        _("progress"),
        done(counts),
        total,
    )
