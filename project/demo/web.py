"""The web server of ``--serve`` and ``--look``, and how to find things in it."""

from __future__ import annotations

import secrets
import socket
import time
import urllib.error
import urllib.request

from django.contrib.auth import get_user_model
from django.urls import NoReverseMatch, reverse

from project.demo.places import WEB_SETTINGS
from project.demo.screen import Screen
from project.demo.system import System
from project.demo.verdict import Outcome

FIRST_PORT = 8000
USER = "demo"


def explain(outcome: Outcome, screen: Screen, *, tiny: bool) -> None:
    """Say how to look at the plan once the servers are stopped."""
    variable, option = ("TINY=1 ", " --tiny") if tiny else ("", "")
    screen.line(f"Look at it:  {variable}LOOK=1 make demo   (or: .venv/bin/python -m project.demo --look{option})")
    for what, path in pages(outcome):
        screen.line(f"  {what:<10} {path}")


def serve(system: System, outcome: Outcome | None, screen: Screen) -> None:
    """Serve until a signal comes. Raises `DemoError` if a process ends."""
    port, password = free_port(), new_password()
    address = f"127.0.0.1:{port}"
    screen.start_lap()
    system.start("web", "runserver", "--noreload", address, settings=WEB_SETTINGS)
    system.wait_until(lambda: answers(f"http://{address}/admin/login/"), "the web server")
    screen.done("web server")
    screen.line(f"Look around:  http://{address}/admin/   user {USER}, password {password}")
    for what, path in pages(outcome):
        screen.line(f"  {what:<10} http://{address}{path}")
    screen.line("Stop with Ctrl-C.")
    while True:
        system.check()
        time.sleep(0.5)


def pages(outcome: Outcome | None) -> list[tuple[str, str]]:
    """Addresses of pages worth a look."""
    wanted = [
        ("all plans", "admin:dynflow_app_executionplan_changelist", []),
        ("reports", "admin:rex_report_changelist", []),
    ]
    if outcome is not None:
        wanted = [
            ("plan page", "admin:dynflow_app_executionplan_change", [outcome.plan_id]),
            ("report", "admin:rex_report_change", [outcome.report_id]),
        ]
    found = []
    for what, name, arguments in wanted:
        try:
            found.append((what, reverse(name, args=arguments)))
        except NoReverseMatch:
            continue
    return found


def new_password() -> str:
    """Give the demo's user a new random password, which nobody can look up later."""
    password = secrets.token_urlsafe(9)
    user, _created = get_user_model().objects.get_or_create(
        username=USER, defaults={"is_staff": True, "is_superuser": True}
    )
    user.set_password(password)
    user.save()
    return password


def free_port() -> int:
    """Return 8000, or the next port that is free."""
    for port in range(FIRST_PORT, FIRST_PORT + 100):
        with socket.socket() as candidate:
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                candidate.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    return 0


def answers(address: str) -> bool:
    """Whether the web server answers, even with an error of its own."""
    try:
        with urllib.request.urlopen(address, timeout=5):  # noqa: S310 - our own address
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
