"""The names under which figures are printed."""

from __future__ import annotations

import re

LABELS = {
    "planning_and_trigger_seconds": "planning and trigger, s",
    "steps_per_second": "steps/s, first claim to plan stopped",
    "steps_per_second_with_trigger": "steps/s, trigger included",
    "ms_per_step": "ms per step",
    "relative_cost_per_step": "cost per step, relative to the first",
    "steps_per_second_by_20": "steps/s in batches of 20",
    "cpu_ms_per_step_total_by_20": "CPU ms per step in batches of 20",
    "ms_per_hop_median": "ms per hop, median",
    "ms_per_hop_p95": "ms per hop, 95 %",
    "triggered_per_second": "plans triggered/s, one by one",
    "finished_per_second": "plans finished/s, trigger included",
    "latency_ms_median": "trigger to finished when idle, ms, median",
    "latency_ms_p95": "trigger to finished when idle, ms, 95 %",
    "trigger_ms_median": "  of it trigger(), ms, median",
    "share_of_straight": "speed, as a share of the straight limit",
    "share_of_lean": "speed, as a share of the lean limit",
    "cpu_times_straight": "CPU time, as a multiple of the straight limit",
    "cpu_times_lean": "CPU time, as a multiple of the lean limit",
    "seconds": "seconds",
    "commit_ms": "ms per commit of one row, which tells of other load",
    "statements_per_second": "SQL statements/s",
    "transactions_per_second": "SQL transactions/s",
    "hosts_per_second": "hosts/s",
    "steps_per_second_of_the_large_alone": "steps/s of the large plan, alone",
    "steps_per_second_of_the_large_beside": "steps/s of the large plan, beside small plans",
    "steps_per_second_of_the_large_first_come": "steps/s of the large plan, first come, first served",
    "small_plans": "small plans triggered meanwhile",
    "latency_ms_median_of_small": "trigger to finished of small plans, ms, median",
    "latency_ms_p95_of_small": "trigger to finished of small plans, ms, 95 %",
    "latency_ms_max_of_small": "trigger to finished of small plans, ms, longest",
    "latency_ms_median_of_small_first_come": "trigger to finished of small plans, ms, median, first come, first served",
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

PATTERNS = (
    (r"cpu_ms_per_(\w+?)_total(.*)", r"CPU ms per \1, all together\2"),
    (r"cpu_ms_per_(sub_plan|planned_step|[a-z]+)_(.+)", r"  CPU ms per \1: \2"),
    (r"cpu_seconds_(.+)", r"CPU s: \1"),
    (r"resident_mib_(.+)", r"resident MiB: \1"),
    (r"resident_kib_of_it_(.+)", r"  of it \1"),
    (r"resident_kib_(.+)", r"resident kB: \1"),
    (r"transaction_statements_per_1000_(.+)", r"  of them BEGIN, COMMIT, SAVEPOINT per 1,000 \1"),
    (r"statements_per_1000_(.+)", r"SQL statements per 1,000 \1"),
    (r"key_checks_per_1000_(.+)", r"foreign keys checked at commit per 1,000 \1"),
)


def label(name: str) -> str:
    """What people read."""
    if name in LABELS:
        return LABELS[name]
    for pattern, text in PATTERNS:
        if re.fullmatch(pattern, name):
            name = re.sub(pattern, text, name)
            break
    return name.replace("_", " ").replace("postgresql", "PostgreSQL").replace(" redis", " Redis")
