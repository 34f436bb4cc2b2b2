"""What this process sends to PostgreSQL, whichever cursor, connection or thread sends it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import psycopg

_BOUND = re.compile(r"(BEGIN|COMMIT|ROLLBACK TO|ROLLBACK|SAVEPOINT|RELEASE)\b", re.IGNORECASE)
_PLACES = (
    # From this Django's cursors inherit, and it is what those use that do without Django.
    (psycopg.Cursor, ("execute", "executemany", "stream", "copy")),
    # What begins and ends transactions. It is not public; a test of the guard says whether it still does.
    (psycopg.Connection, ("_exec_command",)),
)
_MEASURES = (
    (r"\s+", " "),
    (r"(?:%s(?:::[\w\[\]]+)?, )+%s(?:::[\w\[\]]+)?", "..."),
    (r"(?:\(\.\.\.\), )+\(\.\.\.\)", "(...)"),
)
"""What differs between statements that are the same but for the number of their rows."""


@contextmanager
def statements_sent() -> Iterator[Counter[str]]:
    """Counts the statements of all threads meanwhile, by their text. A function of the database is one statement,
    whatever it does; COPY is one, whatever its length."""
    found: Counter[str] = Counter()

    def noting(send: Callable[..., Any]) -> Callable[..., Any]:
        def note(self: Any, statement: Any, *rest: Any, **named: Any) -> Any:
            found[shortened(statement)] += 1
            return send(self, statement, *rest, **named)

        return note

    with ExitStack() as stack:
        for owner, names in _PLACES:
            for name in names:
                stack.enter_context(mock.patch.object(owner, name, noting(getattr(owner, name))))
        yield found


def bounds(statements: Counter[str]) -> int:
    """How many of these only begin or end a transaction or a savepoint."""
    return sum(count for text, count in statements.items() if _BOUND.match(text))


def shortened(statement: object) -> str:
    """One line, the same for the same statement about however many rows."""
    text = statement.decode() if isinstance(statement, bytes) else str(statement)
    if bound := _BOUND.match(text.strip()):
        return bound[0].upper()  # names of savepoints are never the same
    for pattern, replacement in _MEASURES:
        text = re.sub(pattern, replacement, text)
    return text.strip()
