"""Polling actions, driven by hand: what they ask for, when, and what they do when there is no answer."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from dynflow_app import Event
from dynflow_app.actions.base import bind
from dynflow_app.actions.polling import PollingAction
from dynflow_app.exceptions import Suspend
from tests.testapp.journal import BrokenError, Journal
from tests.testapp.polling import DoneAtOnce, Grow, GrowAtUsualIntervals, GrowJudged


class Driven:
    """A step of a polling action, driven as the engine does. It is the context of its invocations, too.

    What a suspended invocation leaves in the output is kept, as JSON; what a failed one leaves is not.
    """

    def __init__(self, action_class: type[PollingAction]) -> None:
        self.action_class = action_class
        self.input: dict[str, Any] = {}
        self.output: dict[str, Any] = {}
        self.is_woken = False
        self.logged: list[str] = []
        self.progress: list[float] = []

    def start(self) -> float | None:
        """Begin, retry or resume; returns the seconds it suspended itself for, or None at its end."""
        self.is_woken = False
        return self._invoke(None)

    def wake(self, event: Event | None = None) -> float | None:
        """What its timer or an event does; returns as `start`."""
        self.is_woken = True
        return self._invoke(event)

    def log(self, text: str) -> None:
        """Keep it."""
        self.logged.append(text)

    def report(self, progress: float) -> None:
        """Keep it."""
        self.progress.append(progress)

    def _invoke(self, event: Event | None) -> float | None:
        before = copy.deepcopy(self.output)
        action = bind(self.action_class, 1, self)  # type: ignore[arg-type]  # the part of a context that is needed
        assert isinstance(action, PollingAction)
        try:
            action.run(event)
        except Suspend as suspended:
            self.output = json.loads(json.dumps(self.output))
            return suspended.wake_after
        except Exception:
            self.output = before
            raise
        return None


def test_it_is_suspended_through_nine_polls_and_ends_with_the_tenth(journal: Journal) -> None:
    # given a task that is 10 % further at each poll
    step = Driven(Grow)

    # when it is started and polled
    waits = [step.start(), *(step.wake() for _ in range(10))]

    # then it waits after each look but the last one, longer after five
    assert waits == [10] * 5 + [20] * 5 + [None]
    assert journal.lines == ["invoke t1"] + ["poll t1"] * 10
    assert step.output["task"] == {"name": "t1", "percent": 100}
    assert step.progress == [n / 10 for n in range(11)]


def test_what_is_done_at_once_is_never_polled(journal: Journal) -> None:
    assert Driven(DoneAtOnce).start() is None
    assert journal.lines == ["invoke t1"]


def test_the_usual_intervals_grow_and_the_last_one_stays(journal: Journal) -> None:
    step = Driven(GrowAtUsualIntervals)

    waits = [step.start(), *(step.wake() for _ in range(34))]

    assert waits == [wait for wait in (0.5, 1, 2, 4, 8, 16, 16) for _ in range(5)]


def test_a_poll_that_succeeds_forgives_those_that_failed(journal: Journal) -> None:
    # given a step that polls
    step = Driven(Grow)
    step.start()

    # when polls fail twice in a row, again and again
    for _ in range(3):
        journal.break_("poll t1")
        assert step.wake() is not None
        assert step.wake() is not None
        assert step.output["poll_failures"] == 2
        journal.repair("poll t1")
        step.wake()

    # then the step never fails, and says what happened
    assert step.output["poll_failures"] == 0
    assert step.output["task"]["percent"] == 30
    assert sum("poll t1 is broken" in line for line in step.logged) == 6


def failed_at_the_third_poll(journal: Journal, action_class: type[PollingAction] = Grow) -> Driven:
    """A step whose task t1 could not be polled three times."""
    step = Driven(action_class)
    step.start()
    journal.break_("poll t1")
    step.wake()
    step.wake()
    with pytest.raises(BrokenError, match="poll t1 is broken"):
        step.wake()
    return step


def test_resumed_it_goes_on_with_the_old_task_if_that_answers(journal: Journal) -> None:
    # given a step that failed because its task did not answer
    step = failed_at_the_third_poll(journal)

    # when it is resumed, and the task answers again
    journal.repair("poll t1")
    assert step.start() is not None

    # then nothing was started a second time, and it may fail as often as before
    assert journal.lines == ["invoke t1"] + ["poll t1"] * 4
    assert (step.output["task"]["name"], step.output["poll_failures"]) == ("t1", 0)


def test_resumed_it_invokes_anew_if_the_old_task_does_not_answer(journal: Journal) -> None:
    # given a step that failed because its task did not answer
    step = failed_at_the_third_poll(journal)

    # when it is resumed, and there is still no answer
    assert step.start() == Grow.poll_intervals[0]

    # then it has a fresh task, and polls that one
    assert step.output == {"task": {"name": "t2", "percent": 0}, "polls": 0, "poll_failures": 0}
    step.wake()
    assert journal.lines[-3:] == ["poll t1", "invoke t2", "poll t2"]


def test_a_fresh_task_that_cannot_be_started_leaves_the_old_one(journal: Journal) -> None:
    # given a step that failed, and neither the old task answers nor can there be another one
    step = failed_at_the_third_poll(journal)
    journal.break_("invoke t2")

    # when it is resumed
    with pytest.raises(BrokenError, match="invoke t2 is broken"):
        step.start()

    # then it still knows the old one
    journal.repair("poll t1")
    step.start()
    assert step.output["task"]["name"] == "t1"


def test_what_was_started_is_not_forgotten_when_looking_at_it_fails(journal: Journal) -> None:
    # given an action that fails to understand its task
    journal.break_("judge")
    step = Driven(GrowJudged)

    # when it has started one
    assert step.start() == Grow.poll_intervals[0]

    # then the fault shows at the next poll, and resuming starts no other
    for again in (step.wake, step.start):
        with pytest.raises(BrokenError, match="judge is broken"):
            again()
    journal.repair("judge")
    assert step.start() is not None
    assert [line for line in journal.lines if line.startswith("invoke")] == ["invoke t1"]


def test_an_event_makes_it_poll(journal: Journal) -> None:
    step = Driven(Grow)
    step.start()

    step.wake(Event(id=1, name="look"))

    assert journal.lines == ["invoke t1", "poll t1"]


@pytest.mark.parametrize(
    ("attributes", "named"),
    [
        ({"poll_intervals": ()}, "poll_intervals"),
        ({"poll_intervals": (1, -1)}, "poll_intervals"),
        ({"polls_per_interval": 0}, "polls_per_interval"),
        ({"max_poll_failures": 0}, "max_poll_failures"),
    ],
)
def test_numbers_that_make_no_sense_are_refused_where_they_are_written(attributes: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        type("Senseless", (Grow,), attributes)


def test_what_is_not_defined_is_named() -> None:
    with pytest.raises(TypeError, match="abstract methods"):
        bind(PollingAction, 1, Driven(Grow))  # type: ignore[arg-type,type-abstract]  # the mistake
