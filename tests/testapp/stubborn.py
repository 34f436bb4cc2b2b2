"""Actions that do not want to end, and actions that end without a word; each notes its process in the journal.

`perform` and the functions below it are what an isolated process may do instead of running a step's whole pipeline.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from dynflow_app import BaseAction
from dynflow_app.actions import registry
from dynflow_app.conf import settings
from dynflow_app.exceptions import Cancel
from dynflow_app.messages import Claimed, EndedAs, Outcome
from dynflow_app.models import World
from dynflow_app.states import StepState
from dynflow_app.worker.invocation import Invocation
from dynflow_app.worker.processes.isolated import StepChannel, run_isolated
from tests.support import wait_until
from tests.testapp.journal import Journal

# --- actions -----------------------------------------------------------------------------------------------------


class Stubborn(BaseAction):
    """Says which process it is in, and does something."""

    isolated = True

    def run(self) -> None:
        Journal().write(f"pid {os.getpid()}")
        self.insist()

    def insist(self) -> None:
        """What it does."""


class Loops(Stubborn):
    """Never comes to an end."""

    def insist(self) -> None:
        while True:
            pass


class SleepsInC(Stubborn):
    """Waits where no exception reaches it."""

    def insist(self) -> None:
        time.sleep(1000)


class HoldsTheInterpreter(Stubborn):
    """Lets no other thread of its process do anything."""

    def insist(self) -> None:
        re.match(r"(a+)+$", "a" * 100 + "b")


class StartsAProgram(Stubborn):
    """Leaves a program behind."""

    def insist(self) -> None:
        program = subprocess.Popen(["sleep", "1000"])  # noqa: S607 - sleep is where it is
        Journal().write(f"pid {program.pid}")


class IgnoresSignals(StartsAProgram):
    """Is deaf to polite signals, and has started a program."""

    def insist(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        super().insist()
        time.sleep(1000)


class Segfaults(Stubborn):
    """Reads where there is no memory."""

    def insist(self) -> None:
        ctypes.string_at(0)


class ExitsHard(Stubborn):
    """Ends the process as if all were well."""

    def insist(self) -> None:
        os._exit(0)


class LeavesADaemon(Stubborn):
    """Forks a process that belongs to nobody, and exits."""

    def insist(self) -> None:
        if os.fork() == 0:
            os.setsid()
            Journal().write(f"pid {os.getpid()}")
            time.sleep(60)
        wait_until(lambda: len(Journal().lines) == 2)
        os._exit(1)


class LooksAndVanishes(BaseAction):
    """Looks four times, then takes its process with it, as often as its input says."""

    isolated = True
    idempotent = True

    def run(self) -> None:
        self.output["looks"] = self.output.get("looks", 0) + 1
        if self.output["looks"] < 5:
            self.suspend(wake_after=0)
        Journal().write("the end")
        if Journal().lines.count("the end") <= self.input["losses"]:
            os._exit(3)


# --- in the process ----------------------------------------------------------------------------------------------


def claimed(action: str = "Stubborn", **given: Any) -> Claimed:
    """A step of an action of this module, as a worker has it after claiming."""
    return Claimed(
        step_id=1, plan_id=uuid4(), number=1, attempt=1, phase="run", is_awaited=True, action_id=1, action_number=1,
        action_name=f"{__name__}.{action}", input=given, output={}, consumes=[], queue="default",
    )  # fmt: skip


def ended(step: Claimed, **facts: Any) -> Outcome:
    """A success, with `facts` as further fields."""
    return Outcome(
        step_id=step.step_id, plan_id=step.plan_id, action_id=step.action_id, attempt=step.attempt,
        is_awaited=step.is_awaited, state=StepState.SUCCESS, ended_as=EndedAs.SUCCEEDED, **facts,
    )  # fmt: skip


def perform(step: Claimed, outputs: Any, invocation: Invocation, channel: StepChannel) -> Outcome:
    """Run the action's ``run`` and nothing else."""
    with invocation.in_thread():
        registry.find(step.action_name)().run()  # type: ignore[attr-defined] # all of this module have one
    return ended(step)


def looks_around(step: Claimed, outputs: Any, invocation: Invocation, channel: StepChannel) -> Outcome:
    """Say where it is."""
    channel.log(step, f"group {os.getpgrp()}")
    channel.log(step, f"worlds {World.objects.count()}")
    channel.log(step, f"payload limit {settings.PAYLOAD_LIMIT}")
    channel.log(step, f"SIGTERM {signal.getsignal(signal.SIGTERM).name}")  # type: ignore[union-attr] # it is default
    channel.report(step, 0.5)
    return ended(step, output=f"{os.getpid()} {outputs}")


def obeys(step: Claimed, outputs: Any, invocation: Invocation, channel: StepChannel) -> Outcome:
    """Look whether to end, now and then."""
    Journal().write("started")
    try:
        while True:
            invocation.check()
            time.sleep(0.001)
    except Cancel as cancel:
        return ended(step, output=str(cancel))


def keeps_a_lock(step: Claimed, outputs: Any, invocation: Invocation, channel: StepChannel) -> Outcome:
    """End with what cannot leave the process."""
    return ended(step, sent=[threading.Lock()])


def work(action: str, *, is_forked: bool = False) -> None:
    """Be a worker, forked as a supervisor forks it, that runs one step in a process of its own.

    With `is_forked`, user code in another thread forks the worker meanwhile; that process keeps all open files.
    """
    if os.fork() == 0:
        step = claimed(action)
        Journal().write(f"worker {os.getpid()}")
        if is_forked:
            threading.Thread(target=_fork_when_started, daemon=True).start()
        outcome = run_isolated(step, None, ignore, Invocation(step), ignore, run=perform)
        Journal().write(outcome.state)
        os._exit(0)
    os.wait()


def _fork_when_started() -> None:
    wait_until(lambda: any(line.startswith("pid") for line in Journal().lines))
    if os.fork() == 0:
        Journal().write(f"bystander {os.getpid()}")
        time.sleep(60)
        os._exit(0)


ignore: Callable[..., None] = lambda *_: None  # noqa: E731 - takes what it gets
