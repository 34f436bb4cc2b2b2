"""Tables in Markdown for a page of the documentation: ``python -m project.bench.page FILE.json ...``."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from project.bench.columns import RATIO
from project.bench.labels import label
from project.bench.report import columns_of, number

LEFT_OUT = ("resident_kib_of_it", "transaction_statements", "key_checks", "statements_per_1000")
NEXT_TO_NOTHING = 0.005
"""A median below which a row about CPU time is left out if that is so in all columns."""


def table(document: dict[str, Any]) -> str:
    """The medians of one document, with the range of the runs where there are several."""
    columns = list(columns_of(document))
    names = dict.fromkeys(name for _, figures in columns for name in figures)
    rows = [["", *(title for title, _ in columns)], ["---", *("---:" for _ in columns)]]
    rows += [
        [label(name).strip(), *(_cell(figures.get(name)) for _, figures in columns)]
        for name in names
        if _is_told(name, [figures[name]["median"] for title, figures in columns if name in figures and title != RATIO])
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def environment(document: dict[str, Any]) -> str:
    """Where it was measured."""
    about = document["environment"]
    return (
        f"Python {about['python']}, Django {about['django']}, PostgreSQL {about['postgresql']}, "
        f"Valkey {about['valkey']}, {about['cores']} cores; a commit takes {about['commit_ms']:.2f} ms."
    )


def main(files: Sequence[str]) -> None:
    """Print the table of each document."""
    for file in files:
        document = json.loads(Path(file).read_text(encoding="utf-8"))
        runs = max(column["runs"] for column in document["columns"])
        several = f"Medians of {runs} runs, least and most in parentheses." if runs > 1 else "One run."
        sys.stdout.write(f"### {document['kind']}\n\n{environment(document)} {several}\n\n{table(document)}\n\n")


def _is_told(name: str, medians: Sequence[float]) -> bool:
    if name.startswith(LEFT_OUT):
        return False
    return not name.startswith("cpu_") or any(value >= NEXT_TO_NOTHING for value in medians)


def _cell(figure: dict[str, float] | None) -> str:
    if figure is None:
        return ""
    least, most = number(figure["min"]), number(figure["max"])
    return number(figure["median"]) + (f" ({least} to {most})" if least != most else "")


if __name__ == "__main__":
    main(sys.argv[1:])
