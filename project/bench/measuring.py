"""One run from start to end: the part that starts the place, and the part that measures in it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from project.bench import report
from project.bench.kinds import KINDS
from project.bench.limits.place import commit
from project.bench.places import fresh_database
from project.bench.running import warm_up
from project.bench.stage import Say, Stage
from project.bench.statements import Counter, by_server
from project.bench.system import System
from project.manage_process import REPOSITORY


def in_fresh_place(arguments: Sequence[str], settings: Mapping[str, Any]) -> int:
    """Run ``manage.py dynflow_bench ARGUMENTS`` on a database of its own, with further ``settings``; returns the exit
    code."""
    signal.signal(signal.SIGTERM, _interrupt)
    with fresh_database() as environ:
        environ["DYNFLOW_SETTINGS"] = json.dumps({**json.loads(environ.get("DYNFLOW_SETTINGS") or "{}"), **settings})
        process = subprocess.Popen(
            [sys.executable, str(REPOSITORY / "manage.py"), "dynflow_bench", *arguments],
            env=environ,
            start_new_session=True,  # Ctrl-C reaches this process, which passes it on and waits
        )
        try:
            return process.wait()
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.wait()


def measure(name: str, counts: Sequence[int], runs: int, say: Say) -> dict[str, Any]:
    """Measure on the database and Redis of the settings; returns the document."""
    signal.signal(signal.SIGTERM, _interrupt)
    kind, redis_url = KINDS[name], os.environ["REDIS_URL"]
    with System(Path(os.environ["DYNFLOW_HOME"]), kind.queues) as system:
        stage = Stage(system, redis_url, Counter() if by_server() else None, lambda text: say(f"{name}: {text}"))
        if kind.warms_up:
            say("warming up")
            warm_up(system)
        columns = kind.measure(stage, counts, runs)
    return {
        "kind": name,
        "environment": {**report.environment(redis_url), "commit_ms": commit()},
        "statements_counted_by": "server" if stage.counter else "none",
        "columns": [column.as_json() for column in columns],
    }


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
