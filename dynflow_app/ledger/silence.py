"""Silence: connections that die without a word, as when a firewall forgets them, are found out and dropped.

The kernel finds some of them by itself, if it is asked to (`PATIENCE`). For the others every statement of a guarded
session has a deadline. When it is over, a second connection asks whether the server is still at it: then that is given
more time; otherwise the answer was lost on the way, and whoever waits for it gets an error, as after any other outage.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from dynflow_app import clock
from dynflow_app.models.base import ledger_connection

DEADLINE = 12.0
"""Seconds that a statement may take before somebody asks what has become of it."""
LONGEST_QUESTION = 3
"""Seconds that the question may take: one connects, one asks."""
PATIENCE = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
"""What our processes ask of libpq, unless the project's OPTIONS say otherwise."""


def ask_for_patience() -> None:
    """Let new connections to the ledger have these options."""
    options = ledger_connection().settings_dict.setdefault("OPTIONS", {})
    if "service" not in options:  # that has its own
        for name, value in PATIENCE.items():
            options.setdefault(name, value)


def watch(session: Any) -> None:
    """Give every statement of this psycopg connection a deadline."""
    parameters = {**ledger_connection().get_connection_params(), "connect_timeout": LONGEST_QUESTION}
    pid = session.pgconn.backend_pid
    _limit(session, DEADLINE, lambda: _is_server_at_it(parameters, pid))


def _is_server_at_it(parameters: dict[str, Any], pid: int) -> bool:
    import psycopg

    known = {"cursor_factory", "context", "prepare_threshold", "server_side_binding", "pool"}
    wanted = {name: value for name, value in parameters.items() if name not in known}
    try:
        with psycopg.connect(**wanted, autocommit=True) as other:
            _limit(other, LONGEST_QUESTION, lambda: False)
            row = other.execute(_AT_IT, [pid]).fetchone()
    except psycopg.Error:
        return False
    return bool(row and row[0])


_AT_IT = """
    SELECT state = 'active' AND wait_event IS DISTINCT FROM 'ClientWrite' FROM pg_stat_activity WHERE pid = %s
"""


def _limit(session: Any, seconds: float, may_go_on: Callable[[], bool]) -> None:
    import psycopg

    wait = session.wait

    def limited(generator: Generator[Any, Any, Any], *args: Any, **kwargs: Any) -> Any:
        try:
            return wait(_impatient(generator, seconds, may_go_on), *args, **kwargs)
        except TimeoutError as error:
            session.close()
            raise psycopg.OperationalError(str(error)) from error

    session.wait = limited


def _impatient(
    generator: Generator[Any, Any, Any], seconds: float, may_go_on: Callable[[], bool]
) -> Generator[Any, Any, Any]:
    """The steps of a libpq call, which psycopg resumes several times a second even if nothing comes."""
    deadline = clock.monotonic() + seconds
    try:
        wanted = next(generator)
        while True:
            came = yield wanted
            wanted = generator.send(came)
            if clock.monotonic() > deadline:
                if not may_go_on():
                    raise TimeoutError(f"The server has not answered for {seconds:g} s, and is not at it.")
                deadline = clock.monotonic() + seconds
    except StopIteration as end:
        return end.value
