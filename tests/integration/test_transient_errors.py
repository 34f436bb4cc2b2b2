"""Which errors of the database are worth another try."""

from __future__ import annotations

import pytest
from django.db import DatabaseError, OperationalError

from dynflow_app.models.base import execute, is_transient, open_session
from dynflow_app.worker.outage import outlasting

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_statement_that_is_wrong_is_not_tried_again() -> None:
    calls: list[str] = []

    def call() -> None:
        calls.append("called")
        execute("SELECT 1 FROM there_is_no_such_table")

    with pytest.raises(DatabaseError):
        outlasting(call, check=lambda: None)
    assert calls == ["called"]


def test_an_outage_of_another_database_is_not_one_of_the_ledger() -> None:
    session = open_session()
    assert not is_transient(OperationalError("the reports are away"), session)
    assert not is_transient(ValueError("something else"), session)


def test_what_waits_is_ended_by_whoever_asks_the_step_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    # given a database that stays away
    monkeypatch.setattr("dynflow_app.worker.outage.is_transient", lambda *_: True)
    asked = iter([None, None, KeyboardInterrupt()])

    def check() -> None:
        if (error := next(asked)) is not None:
            raise error

    def call() -> None:
        raise OperationalError("away")

    # then the waiting ends as soon as that is wanted
    with pytest.raises(KeyboardInterrupt):
        outlasting(call, check)
