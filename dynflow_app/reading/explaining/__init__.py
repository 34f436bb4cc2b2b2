"""Explaining: why a plan does not move, from what the ledger and Redis say now."""

from __future__ import annotations

from dynflow_app.models import ExecutionPlan
from dynflow_app.reading.explaining.facts import look
from dynflow_app.reading.explaining.findings import Finding, FindingCode
from dynflow_app.reading.explaining.reasons import reasons

__all__ = ["Finding", "FindingCode", "explain"]


def explain(plan: ExecutionPlan) -> list[Finding]:
    """Why `plan` does not move, the reason first; empty if it has stopped, or simply goes on.

    While some of its steps run, only what needs somebody is named: a queue without workers, say, but no timer. Changes
    nothing. Less than ten queries for any number of steps; if Redis is away that is found within a second. Raises what
    the database raises.
    """
    facts = look(plan.pk)
    return [] if facts is None else list(reasons(facts))
