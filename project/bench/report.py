"""The document of one run, and its table."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Sequence
from typing import Any

import django
from django.db import connection

from dynflow_app.conf import settings
from project.bench.labels import label

NOTES = {
    "server": "SQL statements: counted by pg_stat_statements in the whole database, without those that only waited.",
    "none": "SQL statements: not counted, since pg_stat_statements is not loaded.",
}


def environment(redis_url: str) -> dict[str, Any]:
    """Versions and the machine."""
    import redis

    with redis.Redis.from_url(redis_url) as client:
        about = client.info("server")
    with connection.cursor() as cursor:
        cursor.execute("SHOW server_version")
        postgresql = cursor.fetchone()[0].split()[0]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "python": platform.python_version(),
        "django": django.get_version(),
        "postgresql": postgresql,
        "valkey": about.get("valkey_version") or about.get("redis_version"),
        "cores": cores,
        "worker_threads": settings.WORKER_THREADS,
        "batch": settings.BATCH,
    }


def text(document: dict[str, Any]) -> str:
    """The document for people: the median of each figure."""
    about = document["environment"]
    header = (
        f"dynflow_bench {document['kind']}: Python {about['python']}, Django {about['django']}, PostgreSQL "
        f"{about['postgresql']}, Valkey {about['valkey']}, {about['cores']} cores; "
        f"a commit takes {about['commit_ms']:.2f} ms"
    )
    columns = list(columns_of(document))
    names = list(dict.fromkeys(name for _, figures in columns for name in figures))
    titles = ["", *(title for title, _ in columns)]
    rows = [
        [label(name), *(number(figures[name]["median"] if name in figures else None) for _, figures in columns)]
        for name in names
    ]
    runs = max(column["runs"] for column in document["columns"])
    notes = [f"Medians of {runs} runs." if runs > 1 else "One run.", NOTES[document["statements_counted_by"]]]
    return "\n".join([header, "", *aligned([titles, *rows]), "", *notes])


def columns_of(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Title and figures of each, followed by what it is compared with."""
    unit = "s" if document["kind"] == "idle" else ""
    for column in document["columns"]:
        yield column["title"] + unit, column["figures"]
        yield from column["beside"].items()


def number(value: float | None) -> str:
    """As many digits as mean something."""
    if value is None:
        return "-"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:,.2f}" if abs(value) < 10 else f"{value:,.1f}"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """First column to the left, the others to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        ).rstrip()
        for row in rows
    ]
