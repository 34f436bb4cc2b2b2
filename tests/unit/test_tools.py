"""The length check, the requirement files and the settings of the example project."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.support import REPOSITORY, wait_until


def check_lengths(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the length check on a folder."""
    command = [sys.executable, str(REPOSITORY / "tools" / "check_lengths.py"), str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_long_files_need_a_reason(tmp_path: Path) -> None:
    (tmp_path / "migrations").mkdir()
    (tmp_path / "migrations" / "0001_initial.py").write_text("\n" * 400)
    (tmp_path / "excused.py").write_text("# long: one table\n" + "\n" * 400)
    (tmp_path / "edge.py").write_text("\n" * 300)
    assert check_lengths(tmp_path).returncode == 0
    (tmp_path / "long.py").write_text("\n" * 301)
    done = check_lengths(tmp_path)
    assert done.returncode == 1
    assert done.stdout.startswith("long.py: 301 lines")


def requirements(name: str) -> set[str]:
    """Return the requirements of a file and of those it includes."""
    found: set[str] = set()
    for line in (REPOSITORY / "requirements" / name).read_text().splitlines():
        if line.startswith("-r "):
            found |= requirements(line.removeprefix("-r "))
        elif line and not line.startswith("#"):
            found.add(line)
    return found


def test_requirement_files_mirror_the_project() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    listed = {line for extra in extras.values() for line in extra if not line.startswith("dynflow_app[")}
    assert requirements("base.txt") == set(project["dependencies"])
    assert requirements("dev.txt") == set(project["dependencies"]) | listed


def run_settings(code: str, home: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Import settings in a fresh process with nothing but ``environ`` set."""
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        env={"PATH": os.environ["PATH"], "DYNFLOW_HOME": str(home), **environ},
        capture_output=True,
        text=True,
        check=False,
    )


def test_signing_key_is_required_outside_debug(tmp_path: Path) -> None:
    done = run_settings("import project.settings.base", tmp_path)
    assert done.returncode == 1
    assert "SECRET_KEY is not set" in done.stderr
    assert run_settings("import project.settings.dev", tmp_path).returncode == 0
    assert run_settings("import project.settings.base", tmp_path, SECRET_KEY="x").returncode == 0


def test_database_follows_the_environment(tmp_path: Path) -> None:
    code = "from project.settings.dev import *; print(DATABASES['default']['ENGINE'], RQ_QUEUES['rex']['URL'])"
    assert run_settings(code, tmp_path).stdout.split() == [
        "django.db.backends.sqlite3",
        "redis://127.0.0.1:6379/0",
    ]
    environ = {"POSTGRES_HOST": "/run/pg", "REDIS_URL": "unix:///run/v.sock?db=0"}
    assert run_settings(code, tmp_path, **environ).stdout.split() == [
        "django.db.backends.postgresql",
        "unix:///run/v.sock?db=0",
    ]


def test_waiting_in_vain_says_for_what() -> None:
    with pytest.raises(AssertionError, match="in vain for: the moon"):
        wait_until(lambda: 0, timeout=0.01, describe="the moon")
    assert wait_until(lambda: "value") == "value"
