"""Verbs for many plans or steps at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Model, QuerySet

from dynflow_app.exceptions import WrongStateError

CHUNK = 200


@dataclass(slots=True)
class BulkReport:
    """What became of each: keys of those done, and for the others the reason."""

    done: list[Any] = field(default_factory=list)
    skipped: dict[Any, str] = field(default_factory=dict)
    """Those whose state forbids the verb."""
    failed: dict[Any, str] = field(default_factory=dict)
    """Those for which it raised."""


def in_bulk(
    verb: Callable[..., object], chosen: QuerySet[Any], *, by: Any = "", reason: str = "", **options: Any
) -> BulkReport:
    """Apply a verb such as `resume` to all plans (or steps) of a queryset: ``in_bulk(resume, plans, by=user)``.

    Each in a transaction of its own, so one that cannot be done does not undo the others; call it outside of one.
    Memory is bounded except for the report. `options` go to the verb.
    """
    report = BulkReport()
    keys = list(chosen.order_by("pk").values_list("pk", flat=True))
    model: type[Model] = chosen.model
    for start in range(0, len(keys), CHUNK):
        rows = model._default_manager.in_bulk(keys[start : start + CHUNK])
        for key in keys[start : start + CHUNK]:
            _apply(verb, key, rows.get(key), report, {"by": by, "reason": reason, **options})
    return report


def _apply(
    verb: Callable[..., object], key: Any, row: Model | None, report: BulkReport, options: dict[str, Any]
) -> None:
    if row is None:
        report.skipped[key] = "It does not exist any more."
        return
    try:
        verb(row, **options)
    except WrongStateError as error:
        report.skipped[key] = str(error)
    except Exception as error:
        report.failed[key] = f"{type(error).__name__}: {error}"
    else:
        report.done.append(key)
