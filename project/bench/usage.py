"""What processes use: CPU seconds and resident memory, by psutil or from /proc."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from dynflow_app.processes.memory import resident_bytes


@dataclass(frozen=True, slots=True)
class Usage:
    """Of one process, so far."""

    cpu_seconds: float
    resident_bytes: int


def children(pid: int) -> list[int]:
    """Direct children, oldest first."""
    try:
        import psutil
    except ImportError:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [process.pid for process in psutil.Process(pid).children()]


def usage(pid: int) -> Usage:
    """CPU time and memory of a process that runs."""
    try:
        import psutil
    except ImportError:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks = int(after_name[11]) + int(after_name[12])
        return Usage(ticks / os.sysconf("SC_CLK_TCK"), resident_bytes(pid) or 0)
    process = psutil.Process(pid)
    times = process.cpu_times()
    return Usage(times.user + times.system, process.memory_info().rss)


def members(orchestrator: int, worker: int) -> dict[str, int]:
    """Name to process id of what makes up the system."""
    supervisor = children(worker)[0]
    return {
        "orchestrator": orchestrator,
        "rqworker": worker,
        "supervisor": supervisor,
        "child": children(supervisor)[0],
    }
