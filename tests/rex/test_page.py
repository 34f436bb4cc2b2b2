"""The how-to about commands on hosts: what it shows is what happens."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from project.rex.models import HostStatus
from tests.docs.blocks import DOCS, blocks
from tests.rex.scripted import Turns
from tests.rex.test_command import call, turns  # noqa: F401 - a fixture

pytestmark = pytest.mark.django_db(transaction=True)
PAGE = DOCS / "how-to" / "run-commands-on-hosts.md"


def arguments_of(line: str) -> list[str]:
    """What is typed after ``manage.py rex``."""
    return shlex.split(line.removeprefix("$ manage.py rex "))


def test_the_page(turns: Turns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    # given the page's inventory and template
    monkeypatch.chdir(tmp_path)
    found = {block.language: block.text for block in blocks(PAGE) if block.language in ("ini", "sh")}
    Path("hosts.ini").write_text(found["ini"])
    Path("install.sh").write_text(found["sh"])
    first, second = (block.text.splitlines() for block in blocks(PAGE) if block.language == "console")

    # then its commands do what it says
    code, out, _ = call(*arguments_of(first[0]))
    assert (code, out.splitlines()[-1]) == (0, "3 succeeded")
    code, out, err = call(*arguments_of(second[0]))
    assert (code, out, err) == (2, "", second[1])

    # and with what is missing it runs
    Path("hosts.ini").write_text(found["ini"] + "flags=-q -y\n")
    code, out, _ = call(*arguments_of(second[0]))
    assert (code, out.splitlines()[-1]) == (0, "1 succeeded")


def test_the_page_names_every_status_that_a_host_ends_with() -> None:
    named = set(re.findall(r"^\| `(\w+)` \|", PAGE.read_text(), re.MULTILINE))
    assert named == set(HostStatus.values) - {"pending"}
