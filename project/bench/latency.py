"""How long one plan takes on a system that has nothing else to do, or does something else."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

from django.db import connection

from dynflow_app.models import ExecutionPlan
from dynflow_app.triggering import trigger
from project.bench.actions import NoOp
from project.bench.system import System


def single(system: System) -> tuple[float, float]:
    """Milliseconds from the call of trigger() to the end in the ledger, and those of trigger() alone."""
    time.sleep(0.02)
    since = server_time()
    began = time.perf_counter()
    plan = trigger(NoOp)
    triggering = (time.perf_counter() - began) * 1000
    time.sleep(0.005)
    system.wait_for([plan.pk], pause=0.005)
    ended = time_of(ExecutionPlan.objects.get(pk=plan.pk).ended_at)
    return (ended - since).total_seconds() * 1000, triggering


def server_time() -> Any:  # a datetime
    """The server's clock."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        return cursor.fetchone()[0]


def time_of(value: datetime | None) -> datetime:
    """A time that is there, since the plan has stopped."""
    assert value is not None  # noqa: S101 - the plan has stopped
    return value
