"""Starts ``manage.py`` commands as processes, for programs that run the whole system: the demo and the benchmark."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from dynflow_app.processes.parent_death import die_with_parent

REPOSITORY = Path(__file__).resolve().parents[1]


def start_manage(arguments: Sequence[str], *, settings: str, log: Path) -> subprocess.Popen[bytes]:
    """Start ``manage.py ARGUMENTS``; both its streams go to `log`. It ends with this process, on Linux even if killed.

    Only for programs whose starting thread lives as long as the process: the kernel watches that thread.
    """
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, str(REPOSITORY / "manage.py"), *arguments],
            cwd=REPOSITORY,
            env={**os.environ, "DJANGO_SETTINGS_MODULE": settings},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches the starter alone, which stops them in order
            preexec_fn=die_with_parent,  # noqa: PLW1509 - calls one system call, takes no lock
        )
