"""Ending user code early, and never anything but user code."""

# long: many small cases of one subject

from __future__ import annotations

import asyncio
import random
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count, takewhile
from queue import SimpleQueue
from types import FrameType

import pytest

from dynflow_app.exceptions import Abort, Cancel, StepTimeoutError
from dynflow_app.worker.invocation import Invocation
from tests.support import wait_until
from tests.testapp.stubborn import claimed

ROUNDS = 2_000


def invocation() -> Invocation:
    """Of a step that does not matter here."""
    return Invocation(claimed())


def busy(steps: int) -> int:
    """Some bytecodes, with places where an exception can surface."""
    total = 0
    for number in range(steps):
        total += abs(number)
    return total


class InThread:
    """User code in a thread, surrounded as a worker does."""

    def __init__(self, call: Invocation, code: Callable[[], object]) -> None:
        self.ended_with: BaseException | None = None
        self._call = call
        self._code = code
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def join(self) -> BaseException | None:
        """Wait for the end; what came out of the block."""
        self._thread.join(timeout=20)
        assert not self._thread.is_alive()
        return self.ended_with

    def _run(self) -> None:
        try:
            with self._call.in_thread():
                self._code()
        except BaseException as error:
            self.ended_with = error


# --- asking ------------------------------------------------------------------------------------------------------


def test_who_is_asked_to_end_gets_to_know_when_it_looks() -> None:
    # given an invocation that nobody wants to end
    call = invocation()
    call.check()

    # when it is asked
    call.ask(cancel := Cancel("enough"))

    # then a look raises just that
    with pytest.raises(Cancel) as raised:
        call.check()
    assert raised.value is cancel


def test_the_first_who_asks_decides_but_an_abort_replaces_a_cancel() -> None:
    # given an invocation asked twice
    call = invocation()
    call.ask(cancel := Cancel())
    call.ask(StepTimeoutError())
    assert call.stop_with is cancel

    # when it is aborted, then that counts, once and for all
    abort = Abort()
    for error in (abort, Abort(), Cancel()):
        call.ask(error)
        assert call.stop_with is abort


@pytest.mark.parametrize("is_asked_first", [False, True])
def test_an_actions_own_way_to_cancel_is_called_once_in_a_thread_of_its_own(is_asked_first: bool) -> None:
    # given code that has its own way
    call = invocation()
    threads: SimpleQueue[threading.Thread] = SimpleQueue()
    if is_asked_first:
        call.ask(Cancel())
    with call.in_thread():
        call.on_ask(lambda: threads.put(threading.current_thread()), log=pytest.fail)

        # when it is asked to end, twice
        call.ask(Cancel())
        call.ask(StepTimeoutError())

        # then that is called once, and not here
        assert threads.get(timeout=20) is not threading.current_thread()
    assert threads.empty()


def test_what_an_actions_own_way_raises_is_logged() -> None:
    # given code whose way to cancel is broken
    call = invocation()
    said: SimpleQueue[str] = SimpleQueue()

    def cancel() -> None:
        raise SystemExit("no way")

    with call.in_thread():
        call.on_ask(cancel, said.put)

        # when it is asked to end, then the log has the reason
        call.ask(Cancel())
        assert said.get(timeout=20) == "Asked to end, it raised SystemExit: no way"


def test_code_that_has_ended_is_not_asked_any_more() -> None:
    # given code that ended, and had its own way to cancel
    call = invocation()
    with call.in_thread():
        call.on_ask(lambda: pytest.fail("called after the end"), log=pytest.fail)
    assert call.is_over

    # when somebody asks, and forces, then nothing happens
    threads = threading.active_count()
    call.ask(Cancel())
    assert call.force() == "it had ended by itself"
    assert threading.active_count() == threads


# --- threads -----------------------------------------------------------------------------------------------------


def test_a_busy_thread_is_stopped_by_an_exception() -> None:
    # given code that never looks
    call = invocation()
    begun = threading.Event()

    def code() -> None:
        begun.set()
        while True:
            pass

    thread = InThread(call, code)
    begun.wait(timeout=20)

    # when it is forced, also repeatedly
    assert call.force() == "an exception was raised in its thread"
    call.force()

    # then an Abort came out of it
    assert isinstance(thread.join(), Abort)
    assert call.is_over


def test_code_that_was_forced_before_it_began_never_begins() -> None:
    # given an invocation that was asked and forced to end in time
    call = invocation()
    call.ask(cancel := Cancel())
    assert call.force() == "it had not started"

    # when a thread would begin, then it gets the reason instead
    assert InThread(call, lambda: pytest.fail("it began")).join() is cancel


class AtBytecode:
    """Forces an invocation just before the given bytecode of whatever the current thread does."""

    def __init__(self, call: Invocation, position: int) -> None:
        self.place: str | None = None
        """The function where it did."""
        self._call = call
        self._left = position

    def __call__(self, frame: FrameType, event: str, _: object) -> AtBytecode:
        frame.f_trace_opcodes = True
        if event == "opcode":
            self._left -= 1
            if self._left == 0:
                self.place = frame.f_code.co_name
                self._call.force()
        return self


def forced_at(position: int) -> tuple[str | None, str]:
    """In which function a piece of user code, or what surrounds it, was forced, and what came of it."""
    call = invocation()
    trace = AtBytecode(call, position)
    sys._getframe().f_trace_opcodes = True  # Python 3.12 wants to know beforehand
    sys.settrace(trace)
    try:
        with call.in_thread():
            result = user_code()
    except Abort:
        result = "aborted"
    finally:
        sys.settrace(None)
    call.force()
    busy(10)  # nothing may surface here
    return trace.place, result


def user_code() -> str:
    """Has something to lose."""
    return str(busy(2))


def test_an_abort_at_any_bytecode_ends_user_code_or_leaves_its_result_alone() -> None:
    # given user code that is forced before its first bytecode, before its second, and so on, until long after its end
    results = [forced_at(position) for position in takewhile(lambda n: forced_at(n)[0], count(1))]

    # then user code was aborted wherever it was, and nothing surfaced later: otherwise that had been raised here
    assert {result for place, result in results if place in {"user_code", "busy"}} == {"aborted"}
    # and what it had returned stands
    assert {result for place, result in results if place == "_leave"} == {"1"}
    assert ("__exit__", "1") in results


@pytest.mark.usefixtures("_switches_often")
def test_no_abort_ever_surfaces_outside_of_user_code() -> None:
    # given a thread that runs tiny user code again and again, and does bookkeeping in between
    calls: SimpleQueue[Invocation | None] = SimpleQueue()
    results: Counter[str] = Counter()

    def work() -> None:
        for number in range(ROUNDS):
            call = invocation()
            try:
                with call.in_thread():
                    calls.put(call)
                    busy(random.randrange(2_000))
                    while number % 2 and not call.is_forced:
                        pass  # it ends at the very moment at which it is made to
                results["completed"] += 1
            except Abort:
                results["aborted"] += 1
            try:
                busy(1_500)  # of about seven bytecodes each
            except Abort:
                results["disturbed"] += 1
        calls.put(None)

    thread = threading.Thread(target=work)

    # when another thread forces each of them at a random moment, twice
    thread.start()
    while (call := calls.get()) is not None:
        busy(random.randrange(2_000))
        call.force()
        call.force()
    thread.join()

    # then some were hit and some had ended, but the bookkeeping was never disturbed
    assert results.total() == ROUNDS
    assert set(results) == {"completed", "aborted"}


@pytest.fixture
def _switches_often() -> Iterator[None]:
    """Threads take turns after a few bytecodes."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


# --- coroutines --------------------------------------------------------------------------------------------------


def test_a_coroutine_is_cancelled_when_it_is_asked_and_again_when_it_is_forced() -> None:
    # given a coroutine that swallows the first cancellation
    call = invocation()
    seen: list[str] = []

    async def code() -> None:
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            seen.append("asked")
        await asyncio.sleep(1000)

    async def main() -> None:
        task = asyncio.current_task()
        assert task is not None
        with pytest.raises(asyncio.CancelledError), call.in_task(asyncio.get_running_loop(), task):
            await code()
        await asyncio.sleep(0)  # our own bookkeeping goes on
        seen.append("ended")

    thread = threading.Thread(target=asyncio.run, args=(main(),), daemon=True)
    thread.start()
    wait_until(lambda: call._has_begun)

    # when it is asked, and then forced
    call.ask(Cancel())
    wait_until(lambda: seen)
    assert call.force() == "the coroutine was cancelled"

    # then it has ended, and who ran it goes on
    thread.join(timeout=20)
    assert seen == ["asked", "ended"]


def test_an_abort_notes_how_the_code_ended_before_it_can_end() -> None:
    # given a coroutine that waits
    call = invocation()
    how: list[str] = []

    async def main() -> None:
        task = asyncio.current_task()
        assert task is not None
        with pytest.raises(asyncio.CancelledError), call.in_task(asyncio.get_running_loop(), task):
            await asyncio.sleep(1000)
        how.append(call.how)

    thread = threading.Thread(target=asyncio.run, args=(main(),), daemon=True)
    thread.start()
    wait_until(lambda: call._has_begun)

    # when nothing more happens than that it is told to abort
    call.ask(Abort())

    # then it has ended, and knows how
    thread.join(timeout=20)
    assert how == ["the coroutine was cancelled"]


def test_a_coroutine_that_was_asked_before_it_began_is_cancelled_at_its_first_wait() -> None:
    call = invocation()
    call.ask(Cancel())

    async def main() -> None:
        task = asyncio.current_task()
        assert task is not None
        with call.in_task(asyncio.get_running_loop(), task):
            await asyncio.sleep(1000)

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())


def test_a_coroutine_that_has_just_ended_does_not_have_its_bookkeeping_cancelled() -> None:
    # given a coroutine that is forced while the loop is busy with its last line
    call = invocation()

    async def main() -> str:
        task = asyncio.current_task()
        assert task is not None
        with call.in_task(asyncio.get_running_loop(), task):
            call.force()
        await asyncio.sleep(0.01)
        return "recorded"

    # when the bookkeeping waits for something, then it is not interrupted
    assert asyncio.run(main()) == "recorded"
