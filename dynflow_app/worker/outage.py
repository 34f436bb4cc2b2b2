"""An outage inside the engine's own statements is not an error of the step that runs: they wait for the database."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from django.db import OperationalError

from dynflow_app.models.base import is_session_lost, is_transient, ledger_connection, open_session
from dynflow_app.processes.waiting import Backoff

T = TypeVar("T")


def outlasting(call: Callable[[], T], check: Callable[[], None]) -> T:
    """What `call` returns, called again as long as the database is away; it must not mind being repeated.

    `check` raises what ends the waiting. Within a transaction of the caller's nothing can be repeated: it is lost, so
    the error is raised, as is any other.
    """
    backoff = Backoff()
    while True:
        session = None
        try:
            session = open_session()
            result = call()
        except Exception as error:
            if ledger_connection().in_atomic_block or not is_transient(error, session):
                raise
            ledger_connection().close()
            check()
            backoff.wait("the database", error)
        else:
            backoff.reset()
            return result


def require_connection() -> None:
    """Raise OperationalError if the connection to the ledger, and with it the transaction under way, was lost: then
    whatever user code made of that does not count."""
    if is_session_lost():
        raise OperationalError("The connection to the database was lost, and the transaction with it.")
