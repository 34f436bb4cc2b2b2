"""Steps in processes of their own: what comes back from them, and that nothing outlives them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from dynflow_app import triggering
from dynflow_app.exceptions import Abort, Cancel, DynflowError, NotSerializableError, StepTimeoutError
from dynflow_app.messages import Claimed, Outcome
from dynflow_app.models import WorldKind
from dynflow_app.processes.registration import register
from dynflow_app.worker.invocation import Invocation
from dynflow_app.worker.processes.fork_server import ForkServer, fork_server
from dynflow_app.worker.processes.isolated import ProcessVanishedError, Run, run_isolated
from tests.engine import Engine, outcome
from tests.support import REPOSITORY, wait_until
from tests.testapp import stubborn
from tests.testapp.journal import Journal

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper


class IsolatedStep:
    """A step that runs in its process, from a thread as in a worker."""

    def __init__(self, run: Run, action: str = "Stubborn", outputs: dict[int, Any] | None = None) -> None:
        self.step = stubborn.claimed(action)
        self.invocation = Invocation(self.step)
        self.said: list[str | float] = []
        self._results: SimpleQueue[Outcome | BaseException] = SimpleQueue()
        threading.Thread(target=self._run, args=(run, outputs), daemon=True).start()

    def result(self) -> Outcome:
        """The outcome; raises what was raised instead."""
        result = self._results.get(timeout=20)
        if isinstance(result, BaseException):
            raise result
        return result

    def _run(self, run: Run, outputs: dict[int, Any] | None) -> None:
        try:
            self._results.put(run_isolated(self.step, outputs, self._say, self.invocation, self._say, run=run))
        except BaseException as error:
            self._results.put(error)

    def _say(self, step: Claimed, what: str | float) -> None:
        assert step is self.step
        self.said.append(what)


def noted(journal: Journal, count: int = 1, what: str = "pid") -> list[int]:
    """The first `count` process ids in the journal."""

    def lines() -> list[str]:
        return [line for line in journal.lines if line.startswith(f"{what} ")]

    wait_until(lambda: len(lines()) >= count)
    return [int(line.split()[1]) for line in lines()[:count]]


def is_gone(pid: int) -> bool:
    """Whether a process has ended; what nobody waits for stays as a zombie."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def all_gone(pids: list[int]) -> Callable[[], bool]:
    """As a condition to wait for."""
    return lambda: all(map(is_gone, pids))


def start_worker(action: str, *, is_forked: bool = False) -> subprocess.Popen[bytes]:
    """A process that forks a worker, which runs one step."""
    call = f"work({action!r}, is_forked={is_forked})"
    code = f"import django; django.setup(); from tests.testapp.stubborn import work; {call}"
    return subprocess.Popen([sys.executable, "-c", code], cwd=REPOSITORY)


@pytest.fixture(scope="module", autouse=True)
def _no_fork_server_remains() -> Iterator[None]:
    yield
    fork_server.stop()


@pytest.mark.django_db(transaction=True)
def test_a_process_has_the_database_settings_and_environment_of_its_worker(settings: SettingsWrapper) -> None:
    # given a world in the test's database, and a setting that only this test has
    register(WorldKind.EXECUTOR)
    settings.DYNFLOW = {**settings.DYNFLOW, "PAYLOAD_LIMIT": 4711}

    # when a step looks around in its process
    step = IsolatedStep(stubborn.looks_around, outputs={1: "one"})
    outcome = step.result()

    # then it sees them, and what it said arrived in order
    pid, outputs = str(outcome.output).split(maxsplit=1)
    assert (int(pid) != os.getpid(), outputs) == (True, "{1: 'one'}")
    assert step.said == [f"group {pid}", "worlds 1", "payload limit 4711", "SIGTERM SIG_DFL", 0.5]
    assert step.invocation.is_over


@pytest.mark.parametrize(
    ("action", "processes"),
    [("Loops", 1), ("SleepsInC", 1), ("HoldsTheInterpreter", 1), ("IgnoresSignals", 2)],
)
def test_whatever_a_step_does_it_can_be_killed_together_with_its_programs(
    action: str, processes: int, journal: Journal
) -> None:
    # given a step that does not want to end
    step = IsolatedStep(stubborn.perform, action)
    pids = noted(journal, processes)
    step.invocation.ask(error := StepTimeoutError("too slow"))

    # when it is made to
    assert step.invocation.force() == "its process was killed"

    # then it ended with what it was asked to end with, and no process remains
    with pytest.raises(StepTimeoutError) as raised:
        step.result()
    assert raised.value is error
    wait_until(all_gone(pids))


def test_a_step_that_looks_is_asked_and_keeps_its_word(journal: Journal) -> None:
    # given a step that looks whether it should end
    step = IsolatedStep(stubborn.obeys)
    wait_until(lambda: "started" in journal.lines)

    # when it is cancelled
    step.invocation.ask(Cancel("enough"))

    # then it has ended by itself, with an outcome of its own
    assert step.result().output == "enough"
    assert step.invocation.force() == "it had ended by itself"


def test_a_step_that_was_asked_before_its_process_began_is_asked_there(journal: Journal) -> None:
    # given a fork server that is busy starting, and a step that is cancelled meanwhile
    fork_server.stop()
    step = IsolatedStep(stubborn.obeys)
    step.invocation.ask(Cancel("early"))

    # when it runs, then it gets to know
    assert step.result().output == "early"


@pytest.mark.parametrize(("action", "how"), [("Segfaults", "signal SIGSEGV"), ("ExitsHard", "exit code 0")])
def test_a_process_that_vanishes_is_told_from_one_that_fails(action: str, how: str, journal: Journal) -> None:
    # when a step takes its process with it
    step = IsolatedStep(stubborn.perform, action)

    # then nobody claims to know what became of it
    with pytest.raises(ProcessVanishedError, match=f"with {how} before .* unknown whether its effects"):
        step.result()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("losses", "ends"), [(2, "stopped/success"), (3, "paused/error")])
def test_only_losses_count_against_a_step_that_may_be_repeated(
    engine: Engine, journal: Journal, losses: int, ends: str
) -> None:
    """Not the invocations in which it looked, and waited on."""
    plan = engine.run(triggering.trigger(stubborn.LooksAndVanishes, losses=losses))
    assert (outcome(plan), journal.lines) == (ends, ["the end"] * 3)
    lost = plan.steps.get().attempts.filter(ended_as="lost")
    assert lost.count() == losses


def test_an_outcome_that_cannot_leave_the_process_fails_the_step_and_hangs_nobody() -> None:
    with pytest.raises(NotSerializableError, match="cannot pickle"):
        IsolatedStep(stubborn.keeps_a_lock).result()


def test_programs_that_a_step_started_end_with_it(journal: Journal) -> None:
    # given a step that starts a program and does not wait for it
    step = IsolatedStep(stubborn.perform, "StartsAProgram")

    # when it has ended well
    step.result()

    # then so has the program
    wait_until(all_gone(noted(journal, 2)))


def test_a_daemon_that_a_step_leaves_does_not_hide_its_end(journal: Journal) -> None:
    # given a step that forks a process into a session of its own, which holds all open files
    step = IsolatedStep(stubborn.perform, "LeavesADaemon")
    daemon = noted(journal, 2)[1]

    # when the step's process exits, then it is noticed at once
    with pytest.raises(ProcessVanishedError, match="exit code 1"):
        step.result()
    assert not is_gone(daemon)
    os.kill(daemon, signal.SIGKILL)


def test_nothing_outlives_a_worker_that_is_killed(journal: Journal) -> None:
    # given a worker as its supervisor forks it, and a step in a process that has started a program
    supervisor = start_worker("IgnoresSignals")
    (worker,) = noted(journal, what="worker")
    pids = noted(journal, 2)
    family = [process.pid for process in psutil.Process(worker).children(recursive=True)]
    assert set(pids) < set(family)  # the fork server is there, too

    # when the worker is killed
    os.kill(worker, signal.SIGKILL)

    # then all that it had ends
    supervisor.wait(timeout=20)
    wait_until(all_gone(family))


def test_a_worker_that_forks_a_process_of_its_own_still_takes_everything_with_it(journal: Journal) -> None:
    # given a worker with a running step, and a process forked from it that holds all its open files
    supervisor = start_worker("SleepsInC", is_forked=True)
    (worker,), (bystander,) = noted(journal, what="worker"), noted(journal, what="bystander")
    family = [process.pid for process in psutil.Process(worker).children(recursive=True)]
    family.remove(bystander)

    # when the worker is killed, then its step ends all the same
    os.kill(worker, signal.SIGKILL)
    supervisor.wait(timeout=20)
    wait_until(all_gone([*noted(journal), *family]))
    os.kill(bystander, signal.SIGKILL)


def test_a_fork_server_that_was_killed_takes_its_steps_with_it_and_is_replaced(journal: Journal) -> None:
    # given a running step
    step = IsolatedStep(stubborn.perform, "HoldsTheInterpreter")
    (pid,) = noted(journal)

    # when the process that forked it is killed
    psutil.Process(pid).parent().kill()

    # then the step vanished, and the next one runs
    with pytest.raises(ProcessVanishedError, match="an unknown exit code"):
        step.result()
    wait_until(all_gone([pid]))
    assert IsolatedStep(stubborn.perform).result().state == "success"


def test_a_step_that_was_aborted_before_its_process_began_never_starts(journal: Journal) -> None:
    # given an invocation that was forced to end before it had begun
    step = stubborn.claimed()
    invocation = Invocation(step)
    invocation.ask(Abort("no"))
    assert invocation.force() == "it had not started"

    # when it is run, then user code does not begin
    with pytest.raises(Abort, match="no"):
        run_isolated(step, None, stubborn.ignore, invocation, stubborn.ignore, run=stubborn.perform)
    assert journal.lines == []


def test_a_project_that_does_not_load_is_reported_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    # given an environment without a usable project
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "project.settings.missing")

    # when a process is wanted, then the error says what to look at
    with pytest.raises(DynflowError, match=r"cannot load the project \(exit code 1\).*DJANGO_SETTINGS_MODULE"):
        ForkServer().fork()
