"""A worker resource: opened once per process, whoever asks at once, checked, closed, and never shared over a fork."""

from __future__ import annotations

import logging
import os
import threading
from multiprocessing import get_context
from typing import Any

import pytest

from dynflow_app import WorkerResource
from dynflow_app.actions.resource import close_resources


class Line:
    """A connection that can break."""

    made: list[Line]

    def __init__(self) -> None:
        self.is_up, self.is_closed = True, False
        self.made.append(self)

    def check(self) -> bool:
        return self.is_up

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture(autouse=True)
def _lines() -> None:
    Line.made = []


def test_it_is_opened_when_it_is_first_needed_and_then_kept() -> None:
    resource = WorkerResource(Line, close=Line.close, check=Line.check)
    assert Line.made == []
    assert resource.get() is resource.get() is Line.made[0]
    assert len(Line.made) == 1


def test_of_many_threads_one_opens_it() -> None:
    gate = threading.Barrier(20)
    resource = WorkerResource(Line)
    got = []

    def ask() -> None:
        gate.wait()
        got.append(resource.get())

    threads = [threading.Thread(target=ask) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(got) == set(Line.made)
    assert len(Line.made) == 1


def test_a_broken_one_is_closed_and_replaced() -> None:
    resource = WorkerResource(Line, close=Line.close, check=Line.check)
    resource.get().is_up = False
    assert resource.get() is Line.made[1]
    assert [each.is_closed for each in Line.made] == [True, False]


def test_a_check_may_raise_or_return_nothing() -> None:
    answers: list[Any] = [None, ConnectionError("gone"), True]

    def check(line: Line) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    resource = WorkerResource(Line, check=check)
    first = resource.get()
    assert resource.get() is first
    assert resource.get() is not first
    assert resource.get() is Line.made[1]


def test_what_cannot_be_opened_is_tried_again_by_the_next() -> None:
    answers: list[Any] = [ConnectionError("nobody answers"), "line"]

    def connect() -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    resource = WorkerResource(connect)
    with pytest.raises(ConnectionError):
        resource.get()
    assert resource.get() == "line"


def test_the_end_of_the_process_closes_what_is_open_whatever_that_raises(caplog: pytest.LogCaptureFixture) -> None:
    def refuse(line: Line) -> None:
        raise OSError("already gone")

    bad, good, unused = WorkerResource(Line, close=refuse), WorkerResource(Line, close=Line.close), WorkerResource(Line)
    bad.get(), good.get()
    with caplog.at_level(logging.WARNING):
        close_resources()
    assert Line.made[1].is_closed
    assert "did not close: already gone" in caplog.text
    assert len(Line.made) == 2
    assert unused.get() is Line.made[2]


def test_closing_does_not_wait_for_what_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dynflow_app.actions.resource.CLOSE_TIMEOUT", 0.05)
    release = threading.Event()
    resource = WorkerResource(Line, close=lambda line: release.wait(10))
    resource.get()
    close_resources()
    release.set()


def test_a_forked_process_opens_its_own_even_if_a_thread_was_opening_it() -> None:
    # given a parent with an open one, and another that a thread is opening right now
    opening, go_on = threading.Event(), threading.Event()

    def slowly() -> Line:
        opening.set()
        if os.getpid() == parent:
            go_on.wait(10)
        return Line()

    parent = os.getpid()
    resource, other = WorkerResource(Line, close=Line.close), WorkerResource(slowly)
    resource.get()
    thread = threading.Thread(target=other.get)
    thread.start()
    opening.wait(10)

    # when a process is forked
    context = get_context("fork")
    answers = context.SimpleQueue()

    def ask() -> None:
        mine = resource.get()
        other.get()
        answers.put((mine is not Line.made[0], Line.made[0].is_closed, len(Line.made)))

    child = context.Process(target=ask)
    child.start()
    child.join(10)
    go_on.set()
    thread.join()

    # then it opened its own, and left the parent's alone
    assert child.exitcode == 0
    assert answers.get() == (True, False, 3)
    assert resource.get() is Line.made[0]
