"""Why a host cannot be reached through SSH, in words that say what to do."""

from __future__ import annotations

import socket
from pathlib import Path

import asyncssh

from project.rex.connections.command import HostError, RefusedError, UnreachableError
from project.rex.inventory import Host

DEFAULT_KNOWN_HOSTS = "~/.ssh/known_hosts"
"""Where host keys are looked up unless the inventory names another file."""

FINAL = (
    asyncssh.HostKeyNotVerifiable,
    asyncssh.PermissionDenied,
    asyncssh.KeyImportError,
    asyncssh.KeyEncryptionError,
)
"""Trying again would not help, and logging in wrongly again and again gets one locked out."""


def known_hosts_file(host: Host) -> Path:
    """Return the file that holds the key of ``host``.

    Raises ``RefusedError`` if it does not exist: without it no key could be checked.
    """
    path = Path(host.known_hosts or DEFAULT_KNOWN_HOSTS).expanduser()
    if not path.is_file():
        raise RefusedError(
            f"the key of {host.address} cannot be checked: there is no file {path}; {_how_to_add(host, path)}"
        )
    return path


def unreachable(error: Exception, host: Host, known_hosts: Path) -> HostError:
    """Turn what went wrong while connecting to ``host`` into an error for people."""
    message = _explain(error, host, known_hosts)
    return RefusedError(message) if isinstance(error, FINAL) or _is_about_a_file(error) else UnreachableError(message)


def _is_about_a_file(error: Exception) -> bool:
    return isinstance(error, OSError) and bool(error.filename)


def _explain(error: Exception, host: Host, known_hosts: Path) -> str:
    where = f"{host.address} port {host.port}"
    if isinstance(error, asyncssh.HostKeyNotVerifiable):
        return _explain_host_key(host, known_hosts)
    if isinstance(error, asyncssh.PermissionDenied):
        return f"{where} refused the login{_as_whom(host)}; {_check_key(host)}"
    if isinstance(error, asyncssh.KeyImportError | asyncssh.KeyEncryptionError):
        return f"the key file {host.key_file} cannot be used ({error}); give one without passphrase"
    if isinstance(error, OSError):
        return _explain_network(error, host, where)
    return f"connecting to {where} failed: {error or type(error).__name__}"


def _explain_network(error: OSError, host: Host, where: str) -> str:
    if isinstance(error, TimeoutError):
        return f"{where} did not answer in time; check the address, the network and firewalls"
    if isinstance(error, socket.gaierror):
        return f"{host.address} has no address ({error.strerror}); check the name or set host"
    if isinstance(error, ConnectionRefusedError):
        return f"{where} refused the connection; check that an SSH server listens there"
    if error.filename:
        return f"{error.filename} cannot be read ({error.strerror}); check key_file and its owner"
    return f"connecting to {where} failed: {error}"


def _explain_host_key(host: Host, known_hosts: Path) -> str:
    """Tell a host that is not known yet from one that shows another key than it should."""
    host_keys, ca_keys, *_ = asyncssh.read_known_hosts(str(known_hosts)).match(host.address, "", host.port)
    if host_keys or ca_keys:
        return (
            f"the key of {host.address} is not the one in {known_hosts}: it was installed anew, or "
            f"somebody is in between; verify its fingerprint before replacing the line"
        )
    return f"the key of {host.address} is not known in {known_hosts}; {_how_to_add(host, known_hosts)}"


def _how_to_add(host: Host, path: Path) -> str:
    port = "" if host.port == 22 else f"-p {host.port} "
    return f"verify its fingerprint and add it: ssh-keyscan {port}{host.address} >> {path}"


def _as_whom(host: Host) -> str:
    return f" of {host.user}" if host.user else ""


def _check_key(host: Host) -> str:
    key = f"the key {host.key_file}" if host.key_file else "a key of the worker's user"
    return f"check the user, and that {key} is in its authorized_keys there"
