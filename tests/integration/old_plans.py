"""Old plans, and what a clean-up leaves of them."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

from dynflow_app import clock
from dynflow_app.models import (
    ExecutionPlan,
)
from dynflow_app.retention import Selection, clean_up
from tests.factories import (
    PlanFactory,
    StepFactory,
)

MONTH = Selection(older_than=timedelta(days=30))
FAN = "project.bench.actions.Fan"


def old_plan(days: float = 40, **fields: Any) -> ExecutionPlan:
    """A plan that stopped so many days ago."""
    return PlanFactory(state="stopped", created_at=clock.now() - timedelta(days=days, seconds=61), **fields)


def sub_plan(parent: ExecutionPlan, **fields: Any) -> ExecutionPlan:
    """A sub-plan of the first step of `parent`."""
    step = parent.steps.first() or StepFactory(plan=parent, state="success")
    position = step.children.count()
    return old_plan(parent_step=step, position=position, **fields)


def clean(selection: Selection = MONTH, **options: Any) -> Counter[str]:
    """Clean up to the end; what went."""
    total: Counter[str] = Counter()
    for cleaned in clean_up(selection, **options):
        total.update(plans=cleaned.plans.total(), sub_plans=cleaned.sub_plans, limits=cleaned.limits)
    return +total


def left() -> set[ExecutionPlan]:
    return set(ExecutionPlan.objects.all())


def records(path: Path) -> list[dict[str, Any]]:
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    assert text.endswith("\n") or not text
    return [json.loads(line) for line in text.splitlines()]
