"""What processes use: CPU seconds and resident memory, from /proc or by psutil."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Usage:
    """Of one process, so far."""

    pid: int
    parent: int
    cpu_seconds: float
    """Of itself."""
    reaped_seconds: float
    """Of children that ended, and of theirs."""
    resident_bytes: int


def processes() -> dict[int, Usage]:
    """All processes of this machine by their ids."""
    if not (PROC / "self" / "stat").exists():
        return _by_psutil()
    found = (_usage(path) for path in PROC.iterdir() if path.name.isdigit())
    return {usage.pid: usage for usage in found if usage is not None}


def tree(root: int, known: dict[int, Usage]) -> list[list[Usage]]:
    """The process `root`, its children, theirs, and so on: a list per generation, each oldest first."""
    generations = [[known[root]] if root in known else []]
    while generations[-1]:
        parents = {usage.pid for usage in generations[-1]}
        generations.append([known[pid] for pid in sorted(known) if known[pid].parent in parents])
    return generations[:-1]


def own_seconds(pid: int) -> float | None:
    """CPU time of one process; None if it does not run here."""
    usage = processes().get(pid)
    return None if usage is None else usage.cpu_seconds


def _usage(folder: Path) -> Usage | None:
    """None if the process has just ended."""
    try:
        text = (folder / "stat").read_text(errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    user, system, reaped_user, reaped_system = (int(ticks) / TICK for ticks in fields[11:15])
    resident = int(fields[21]) * PAGE
    return Usage(int(folder.name), int(fields[1]), user + system, reaped_user + reaped_system, resident)


def _by_psutil() -> dict[int, Usage]:
    import psutil

    found = {}
    for process in psutil.process_iter(["ppid", "cpu_times", "memory_info"]):
        times, memory = process.info["cpu_times"], process.info["memory_info"]
        if times and memory:
            found[process.pid] = Usage(
                process.pid,
                process.info["ppid"],
                times.user + times.system,
                getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0),
                memory.rss,
            )
    return found
