"""Statistics, and the names under which figures are printed."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any

LABELS = {
    "planning_and_trigger_seconds": "planning and trigger, s",
    "steps_per_second": "steps/s, first claim to plan stopped",
    "steps_per_second_with_trigger": "steps/s, trigger included",
    "ms_per_step": "ms per step",
    "relative_cost_per_step": "cost per step, relative to the first",
    "statements_per_1000_steps": "SQL statements per 1,000 steps",
    "transaction_statements_per_1000_steps": "  of them BEGIN, COMMIT, SAVEPOINT",
    "key_checks_per_1000_steps": "foreign keys checked at commit per 1,000 steps",
    "planning_statements": "SQL statements of planning and trigger",
    "steps_per_second_by_20": "steps/s in batches of 20",
    "ms_per_hop_median": "ms per hop, median",
    "ms_per_hop_p95": "ms per hop, 95 %",
    "triggered_per_second": "plans triggered/s, one by one",
    "finished_per_second": "plans finished/s, trigger included",
    "statements_per_plan": "SQL statements per plan",
    "latency_ms_median": "trigger to finished when idle, ms, median",
    "latency_ms_p95": "trigger to finished when idle, ms, 95 %",
    "trigger_ms_median": "  of it trigger(), ms, median",
    "seconds": "seconds observed",
    "statements_per_second": "SQL statements/s",
    "transactions_per_second": "SQL transactions/s",
    "steps_per_second_alone": "steps/s, no clean-up",
    "steps_per_second_beside_cleanup": "steps/s, while a clean-up runs",
    "ratio": "  ratio",
    "latency_ms_median_alone": "trigger to finished, ms, median, no clean-up",
    "latency_ms_median_beside": "trigger to finished, ms, median, while a clean-up runs",
    "latency_ms_p95_alone": "trigger to finished, ms, 95 %, no clean-up",
    "latency_ms_p95_beside": "trigger to finished, ms, 95 %, while a clean-up runs",
    "cleaned_per_second_beside_steps": "plans cleaned up/s, while steps run",
    "cleaned_per_second_alone": "plans cleaned up/s, nothing else to do",
}


def median(values: Sequence[float]) -> float:
    """The middle value."""
    return float(statistics.median(values))


def percentile(values: Sequence[float], percent: int) -> float:
    """The value that ``percent`` of 100 do not exceed."""
    ordered = sorted(values)
    return float(ordered[min(len(ordered) - 1, round(len(ordered) * percent / 100))])


def most_at_once(times: Iterable[tuple[Any, Any]]) -> int:
    """How many of these spans of time, each from a start to an end, overlap at the most; one that begins when another
    ends does not."""
    changes = sorted(change for start, end in times for change in ((start, 1), (end, -1)))
    return max(accumulate(change for _, change in changes))


def label(name: str) -> str:
    """What people read."""
    return LABELS.get(name) or name.replace("_", " ")
