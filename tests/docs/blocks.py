"""Takes the code out of a Markdown page and runs it, so that the page cannot become untrue.

Three kinds of block are understood. A ``python`` block whose first line is a comment with a path, such as
``# hosts/models.py``, is the content of that file. A ``pycon`` block is a dialogue with the shell, checked by
doctest. Any other ``python`` block is executed in the namespace of the dialogues.
"""

from __future__ import annotations

import doctest
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
DOCS = REPOSITORY / "docs"
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PATH = re.compile(r"# ([\w/]+\.py)\b")


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    page: Path
    line: int
    """Of its first line of code, from 1."""
    language: str
    text: str

    @property
    def path(self) -> str | None:
        """The file whose content it is."""
        match = _PATH.match(self.text) if self.language == "python" else None
        return match.group(1) if match else None


def blocks(page: Path) -> list[Block]:
    """Every fenced block of `page`, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(page, text.count("\n", 0, match.start(2)) + 1, match.group(1), match.group(2))
        for match in _FENCE.finditer(text)
    ]


def table(page: Path, heading: str) -> Iterator[list[str]]:
    """The cells of the first table below `heading`, row by row, without its head. Back-quotes are taken off."""
    lines = page.read_text(encoding="utf-8").splitlines()
    rows: list[list[str]] = []
    for line in lines[lines.index(heading) + 1 :]:
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip("|").split(" | ")])
        elif rows:
            break
    for row in rows[2:]:
        yield [cell.strip("`") if cell.count("`") == 2 else cell for cell in row]


def run_dialogue(block: Block, namespace: dict[str, object]) -> None:
    """Run a ``pycon`` block as doctest would; raises AssertionError with the difference."""
    test = doctest.DocTestParser().get_doctest(block.text, namespace, block.page.name, str(block.page), block.line - 1)
    report: list[str] = []
    test.globs = namespace  # not a copy: the next block goes on from here
    runner = doctest.DocTestRunner(optionflags=OPTIONS)
    runner.run(test, out=report.append, clear_globs=False)
    assert not runner.failures, "".join(report)


def run_code(block: Block, namespace: dict[str, object]) -> None:
    """Execute a ``python`` block; a traceback names the page and the line in it."""
    text = "\n" * (block.line - 1) + block.text
    code = compile(text, str(block.page), "exec", dont_inherit=True)  # readers have no __future__ import of ours
    exec(code, namespace)  # noqa: S102 - our own pages
