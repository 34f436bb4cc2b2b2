"""Fails when a Python file is longer than 300 lines.

Migrations are exempt. A file that must be longer says why in one of its first 15 lines:
``# long: <reason>``.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

LIMIT = 300
HEAD = 15
SKIPPED = {"migrations", "node_modules", "build", "dist", "__pycache__"}
EXCUSE = re.compile(r"^# long: \S")


def python_files(root: Path) -> Iterator[Path]:
    """Yield the Python files below ``root``, without hidden, generated and migration folders."""
    for path in sorted(root.iterdir()):
        if path.is_dir():
            if path.name not in SKIPPED and not path.name.startswith("."):
                yield from python_files(path)
        elif path.suffix == ".py":
            yield path


def too_long(path: Path) -> int:
    """Return the number of lines if that is over the limit without an excuse, otherwise 0."""
    lines = path.read_text(encoding="utf-8").splitlines()
    if len(lines) <= LIMIT or any(EXCUSE.match(line) for line in lines[:HEAD]):
        return 0
    return len(lines)


def main(root: Path) -> int:
    """Print each offender; return the exit code."""
    offenders = [(path, lines) for path in python_files(root) if (lines := too_long(path))]
    for path, lines in offenders:
        print(f"{path.relative_to(root)}: {lines} lines, at most {LIMIT}; split it, or say '# long: <reason>'")
    return 1 if offenders else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[1]))
