"""Words for tests of explanations."""

from __future__ import annotations

from datetime import datetime, timedelta

from dynflow_app import clock
from dynflow_app.models import ExecutionPlan
from dynflow_app.reading.explaining import Finding, FindingCode, explain
from tests.factories import PlanFactory


def ago(**duration: float) -> datetime:
    """A time in the past."""
    return clock.now() - timedelta(**duration)


def running() -> ExecutionPlan:
    """A plan under way, without steps."""
    plan: ExecutionPlan = PlanFactory(state="running")
    return plan


def codes(plan: ExecutionPlan) -> list[FindingCode]:
    """Kinds of the reasons."""
    return [finding.code for finding in explain(plan)]


def only(plan: ExecutionPlan) -> Finding:
    """The reason, if there is one only."""
    (finding,) = explain(plan)
    return finding
