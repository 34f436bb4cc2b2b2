"""What the how-tos about schedules and open connections promise: their examples run on the real engine."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from django.utils.dateparse import parse_datetime

from dynflow_app import Every, Missed, Overlap
from dynflow_app.actions import registry
from dynflow_app.actions.resource import close_resources
from dynflow_app.engine.timing import Timing
from dynflow_app.models import Occurrence, Schedule
from dynflow_app.models.schedule import KEPT_OCCURRENCES
from dynflow_app.orchestrator.schedules import GRACE
from dynflow_app.schedules.declaring import declare_schedules
from tests.docs.blocks import DOCS, table
from tests.docs.following import FollowedPage
from tests.engine import Engine

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper

pytestmark = pytest.mark.django_db(transaction=True)
Open = Callable[..., FollowedPage]


@pytest.fixture(autouse=True)
def _declaring(settings: SettingsWrapper, known_actions: None) -> None:
    settings.DYNFLOW = {**settings.DYNFLOW, "DECLARE_SCHEDULES": True}
    registry._classes.clear()


def test_actions_say_when_they_are_due(page: Open, engine: Engine) -> None:
    done: list[str] = []
    books = SimpleNamespace(close=lambda days: done.append(f"closed, keep {days} days"))
    sensors = SimpleNamespace(read=lambda: done.append("read"))
    found = page("repeat-actions", books=books, sensors=sensors, march_28=parse_datetime("2036-03-28T12:00Z"))
    found.follow()

    # When a process starts, both have rows; and plans when they are due
    declare_schedules()
    assert {str(each.timing) for each in Schedule.objects.all()} == {"30 2 * * * (Europe/Prague)", "every 5 s"}
    engine.pass_time(5)
    engine.run()
    assert done == ["read"]
    found.follow()  # clock changes

    # And people operate them
    found.follow()
    engine.run(found["plan"])
    assert done == ["read", "closed, keep 7 days"]
    found.follow()
    assert Schedule.objects.filter(is_declared=False).count() == 1


def test_the_tables_list_every_argument_and_policy() -> None:
    path = DOCS / "how-to" / "repeat-actions.md"
    heading = "# Repeat actions"
    arguments = {row[0]: row[1] for row in table(path, heading)}
    defaults = {each.name: getattr(Every(), each.name) for each in dataclasses.fields(Timing)}
    assert set(arguments) == set(defaults)
    assert (arguments["overlap"], arguments["missed"]) == ("Overlap.SKIP", "Missed.LATEST")
    assert (defaults["overlap"], defaults["missed"]) == (Overlap.SKIP, Missed.LATEST)
    assert defaults["window"] == timedelta(hours=1)
    text = path.read_text()
    assert all(f"| `Overlap.{each.name}` |" in text for each in Overlap)
    assert all(f"| `Missed.{each.name}` |" in text for each in Missed)
    assert (timedelta(seconds=30), 1000) == (GRACE, KEPT_OCCURRENCES)


def test_a_connection_stays_open_from_run_to_run(page: Open, engine: Engine) -> None:
    waiting = [["a", "b"], ["c"], ["d"]]
    said: list[Any] = []

    class Link:
        """What the page's code connects to."""

        is_up = True

        def read(self, number: int) -> list[str]:
            return waiting.pop(0) if waiting else []

        def ping(self) -> bool:
            return self.is_up

        def acknowledge(self, messages: list[str]) -> None:
            said.append(("acknowledged", *messages))

        def disconnect(self) -> None:
            said.append("closed")

    def connect() -> Link:
        said.append("opened")
        return Link()

    found = page("keep-connections-open", connect=connect, store=lambda messages: said.append(("stored", *messages)))
    found.follow()
    declare_schedules()

    # When it is due several times, then it opens one connection, and acknowledges what it has stored
    for _ in range(3):
        engine.pass_time(2)
        engine.run()
    assert said == [
        "opened",
        *(("stored", "a", "b"), ("acknowledged", "a", "b"), ("stored", "c"), ("acknowledged", "c")),
        *(("stored", "d"), ("acknowledged", "d")),
    ]
    assert Occurrence.objects.filter(outcome="fired").count() == 3

    # And when that breaks, another; which is closed at the end
    Link.is_up = False
    engine.pass_time(2)
    engine.run()
    close_resources()
    assert said[-3:] == ["closed", "opened", "closed"]
