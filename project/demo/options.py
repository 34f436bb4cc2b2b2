"""What can be asked of the demo, on the command line or in the environment."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
EXPLANATION = """\
For make, the switches are variables: KILL=1 make demo, SERVE=1 make demo, LOOK=1 make demo, TINY=1 make demo.
Exit code: 0 if every host was reported and no command ran twice, 1 otherwise, 130 after Ctrl-C.
"""


@dataclass(frozen=True, kw_only=True)
class Options:
    """How the demo runs."""

    home: Path
    """Folder of everything it keeps."""
    inventory: Path
    limit: str
    """Which hosts of the inventory."""
    kill: bool
    """Kill a worker and the active orchestrator in the middle."""
    tiny: bool
    """SQLite and one process, as where there are no servers."""
    serve: bool
    """Afterwards keep everything running, with a web server."""
    look: bool
    """As ``serve``, but run nothing: look at what earlier runs left."""
    ascii: bool


def parse(arguments: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> Options:
    """Read the command line; exits with 2 when it is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m project.demo",
        description="Run a command on 200 hosts (all of them this machine) through real servers and processes.",
        epilog=EXPLANATION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _switch(parser, environ, "kill", "kill a worker and the active orchestrator in the middle")
    _switch(parser, environ, "serve", "keep everything running afterwards, with a web server")
    _switch(parser, environ, "look", "run nothing, only serve what earlier runs left")
    _switch(parser, environ, "tiny", "SQLite and one process instead of PostgreSQL, Valkey and six processes")
    parser.add_argument("--ascii", action="store_true", help="print nothing but ASCII")
    parser.add_argument("--limit", default="all", metavar="PATTERN", help="hosts, groups, globs or ranges")
    parser.add_argument("--inventory", type=Path, default=REPOSITORY / "fixtures" / "inventory.yml", metavar="FILE")
    parser.add_argument("--home", type=Path, default=REPOSITORY / ".dynflow" / "demo", metavar="FOLDER")
    values = vars(parser.parse_args(arguments))
    values["home"] = values["home"].absolute()
    return Options(**values)


def _switch(parser: argparse.ArgumentParser, environ: Mapping[str, str], name: str, text: str) -> None:
    default = environ.get(name.upper(), "") not in {"", "0", "no", "false"}
    parser.add_argument(f"--{name}", action="store_true", default=default, help=text)
