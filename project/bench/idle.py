"""The kind about nothing to do: what a system costs that waits."""

from __future__ import annotations

import time

from django.db import connection

from project.bench.cpu import Meter
from project.bench.figures import Figures
from project.bench.stage import Stage

SETTLING = 11
"""Seconds after which PostgreSQL has added up the transactions of sessions that are idle now."""


def idle(stage: Stage, seconds: int) -> Figures:
    """Nothing to do for ``seconds``."""
    meter = Meter(stage.system.roots(), stage.redis_url)
    counter = stage.counter
    time.sleep(1 if counter else SETTLING)  # whatever the warm-up left
    before, transactions = meter.read(), _transactions()
    if counter:
        counter.reset()
    began = time.perf_counter()
    time.sleep(seconds)
    elapsed = time.perf_counter() - began
    figures: Figures = {"seconds": elapsed}
    if counter:
        figures["statements_per_second"] = counter.total().sent / elapsed
    else:
        figures["transactions_per_second"] = max(0, _transactions() - transactions) / elapsed
    after = meter.read()
    figures |= {f"cpu_seconds_{name}": spent for name, spent in after.since(before).items()}
    members = {name: usage for one in after.trees.values() for name, usage in one.members.items()}
    return figures | {f"resident_mib_{name}": usage.resident_bytes / 2**20 for name, usage in members.items()}


def _transactions() -> int:
    """Transactions in this database so far; PostgreSQL adds them up with a delay."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()")
        return int(cursor.fetchone()[0])
