"""What came of the job, and whether that is what was promised."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from project.demo.progress import first_sentence
from project.demo.screen import Screen

MAX_EXPLAINED = 20
SIGNS = {"succeeded": "ok", "lost": "lost"}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """All that is known afterwards; ``runs`` counts by host how often the command left its line."""

    plan_id: str
    report_id: int
    state: str
    result: str
    seconds: float
    steps: int
    hosts: tuple[str, ...]
    results: tuple[Mapping[str, Any], ...]
    runs: Counter[str]
    workers_lost: int
    hand_overs: int

    @property
    def statuses(self) -> Counter[str]:
        """Number of hosts by status."""
        return Counter(result["status"] for result in self.results)

    def problems(self) -> list[str]:
        """What breaks a promise; empty if all is well."""
        return list(self._problems())

    def _problems(self) -> Iterator[str]:
        if self.state != "stopped":
            yield f"the plan is {self.state}, not stopped"
        if sorted(result["host"] for result in self.results) != sorted(self.hosts):
            yield f"{len(self.hosts)} hosts were asked for and {len(self.results)} reported"
        if self.statuses["lost"] and not self.workers_lost:
            yield "hosts are lost although no worker is"
        for result in self.results:
            runs, lost = self.runs[result["host"]], result["status"] == "lost"
            if runs > 1 or (runs == 0 and not lost):
                yield f"on {result['host']} ({result['status']}) the command ran {runs} times"


def show(outcome: Outcome, screen: Screen) -> None:
    """Print the hosts, those that need an explanation, and the box."""
    _show_hosts(outcome, screen)
    others = [result for result in outcome.results if result["status"] != "succeeded"]
    for result in others[:MAX_EXPLAINED]:
        ran = "its command left its line" if outcome.runs[result["host"]] else "its command left no line"
        if result["status"] != "lost":
            ran = first_sentence(result["error"])
        screen.line(f"  {screen.glyph(_sign(result))} {result['host']}: {result['status']}, {ran}")
    if len(others) > MAX_EXPLAINED:
        screen.line(f"  ... and {len(others) - MAX_EXPLAINED} more")
    screen.line()
    screen.box("result", list(_summary(outcome)))


def _show_hosts(outcome: Outcome, screen: Screen) -> None:
    names = [result["host"] for result in outcome.results]
    domain = _common_domain(names)
    where = f" of {domain.lstrip('.')}" if domain else ""
    screen.line()
    screen.line(f"{len(names)} hosts{where}, seconds of the command")
    width = max((len(name) for name in names), default=0) - len(domain)
    cells = []
    for result in outcome.results:
        sign = _sign(result)
        mark = {"ok": "+" if screen.ascii else "✓", "lost": "?"}.get(sign, "x" if screen.ascii else "✗")
        seconds = f"{result['seconds']:.2f}" if sign != "lost" else "lost"
        cells.append((f"{result['host'].removesuffix(domain):<{width}} {mark} {seconds}", "" if sign == "ok" else sign))
    screen.columns(cells)


def _sign(result: Mapping[str, Any]) -> str:
    return SIGNS.get(result["status"], "bad")


def _common_domain(names: list[str]) -> str:
    """The part after the first dot, if all names share it."""
    domains = {name[name.find(".") :] if "." in name else "" for name in names}
    return domains.pop() if len(domains) == 1 else ""


def _summary(outcome: Outcome) -> Iterator[str]:
    rate = len(outcome.hosts) / max(outcome.seconds, 0.001)
    ran, twice = sum(outcome.runs.values()), sum(1 for runs in outcome.runs.values() if runs > 1)
    yield f"plan {outcome.plan_id}"
    yield f"{outcome.state} · {outcome.result}   {outcome.seconds:.1f} s   {outcome.steps} steps   {rate:.0f} hosts/s"
    yield "hosts: " + ", ".join(f"{count} {status}" for status, count in outcome.statuses.most_common())
    yield f"commands that ran: {ran}, run twice: {twice}"
    yield f"workers lost: {outcome.workers_lost}, orchestrator hand-overs: {outcome.hand_overs}"
