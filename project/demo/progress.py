"""What is shown, and done, while the job runs."""

from __future__ import annotations

from project.demo.screen import Screen
from project.demo.system import System
from project.rex.presentation import Counts

PARTS = 5
"""Lines of progress where nobody looks at a terminal."""

KILL_AT = 0.35
"""Part of the hosts that have ended when the killing begins."""


class Sabotage:
    """Kills a worker and the active orchestrator, once."""

    def __init__(self, system: System) -> None:
        """Kill processes of ``system``."""
        self._system = system
        self.done = False

    def strike(self, counts: Counts) -> list[str]:
        """Do it if it is time; returns the lines to show."""
        if self.done or not KILL_AT <= counts.ended / max(counts.total, 1) < 1:
            return []
        self.done = True
        leader = self._system.leader()
        worker_pid, leader_pid = self._system.kill("worker-1"), self._system.kill(leader)
        return [
            f"killed worker-1 (process {worker_pid}) in the middle of its commands",
            f"killed {leader} (process {leader_pid}), which was leading; the other one takes over",
        ]


class Progress:
    """A display for the follower: a bar on a terminal, a line for each fifth elsewhere."""

    def __init__(self, screen: Screen, system: System, sabotage: Sabotage | None) -> None:
        """Show on ``screen``."""
        self._screen, self._system, self._sabotage = screen, system, sabotage
        self._bar = screen.bar()
        self._shown = 0

    def update(self, counts: Counts) -> None:
        """Show new counts; raises `DemoError` if a process has ended that should run."""
        self._system.check()
        if self._bar is not None:
            self._bar.update(counts)
        else:
            self._maybe_line(counts)
        for text in self._sabotage.strike(counts) if self._sabotage else []:
            self.note(text)

    def note(self, text: str) -> None:
        """Show an event without its explanation; the table at the end explains."""
        text = text.partition(": ")[0]
        text = f"  {self._screen.glyph('warn')} {text}"
        if self._bar is not None:
            self._bar.note(text)
        else:
            self._screen.line(text)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()

    def _maybe_line(self, counts: Counts) -> None:
        part = PARTS * counts.ended // max(counts.total, 1)
        if part > self._shown:
            self._shown = part
            self._screen.line(f"  {counts}")


def first_sentence(text: str) -> str:
    """Return ``text`` up to the end of its first sentence."""
    return text.partition(". ")[0]
