"""Progress and tables."""

from __future__ import annotations

import io
import sys

import pytest

from project.rex.inventory import Connection, Host
from project.rex.presentation import (
    Counts,
    LineDisplay,
    PlainBar,
    ProgressDisplay,
    RichBar,
    hosts_text,
    progress_display,
    results_text,
)

COUNTS = Counts(ended=5, active=2, in_error=1, total=10)


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        """Claim it."""
        return True


def result(number: int, status: str = "succeeded", error: str = "") -> dict[str, object]:
    """Return a host's line in a report."""
    exit_code = {"succeeded": 0, "failed": 1}.get(status)
    return {
        "host": f"h{number}",
        "status": status,
        "exit_code": exit_code,
        "seconds": 0.25,
        "error": error,
    }


def test_lines_come_every_five_seconds() -> None:
    stream, now = io.StringIO(), [0.0]
    display = LineDisplay(stream, clock=lambda: now[0])

    for now[0] in (1, 4.9, 5, 6, 10.5):
        display.update(COUNTS)
    display.note("note")
    display.close()

    line = "5 of 10 hosts done, 2 running, 1 lost\n"
    assert stream.getvalue() == line * 2 + "note\n"


@pytest.mark.parametrize("bar", [PlainBar, RichBar])
def test_bars_show_counts_and_notes(bar: type[PlainBar | RichBar]) -> None:
    stream = Terminal()
    display: ProgressDisplay = bar(stream)

    display.update(COUNTS)
    display.note("a [red]note[/red]")
    display.close()

    assert "a [red]note[/red]" in stream.getvalue()
    assert bar is RichBar or "[###############...............] 5 of 10" in stream.getvalue()


def test_what_is_shown_suits_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(progress_display(io.StringIO()), LineDisplay)
    fancy = progress_display(Terminal())
    fancy.close()
    assert isinstance(fancy, RichBar)
    monkeypatch.setitem(sys.modules, "rich.console", None)
    assert isinstance(progress_display(Terminal()), PlainBar)


def test_few_hosts_are_all_listed() -> None:
    text = results_text([result(1), result(2, "unreachable", "gone")], {"succeeded": 1, "unreachable": 1})

    assert text.splitlines() == [
        "HOST  STATUS       EXIT CODE  SECONDS  LAST ERROR",
        "h1    succeeded    0          0.25",
        "h2    unreachable  -          0.25     gone",
        "",
        "1 succeeded, 1 unreachable",
    ]


def test_of_many_hosts_only_those_that_did_not_succeed() -> None:
    results = [*(result(number) for number in range(40)), result(40, "failed", "no")]

    lines = results_text(results, {"succeeded": 40, "failed": 1}).splitlines()

    assert [line.split()[0] for line in lines if line] == ["HOST", "h40", "40"]


def test_many_hosts_that_all_succeeded_are_one_line() -> None:
    assert results_text([result(n) for n in range(40)], {"succeeded": 40}) == "40 succeeded"


def test_a_host_cannot_disturb_the_terminal() -> None:
    text = results_text([result(1, "failed", "\x1b[2Jgone\r")], {"failed": 1})

    assert "\x1b" not in text
    assert "\r" not in text


def test_hosts_are_listed() -> None:
    hosts = [Host("h1", ("a", "b"), connection=Connection.SSH, address="10.0.0.1", port=23)]

    assert hosts_text(hosts).splitlines()[1] == "h1    ssh         10.0.0.1:23  a, b"
