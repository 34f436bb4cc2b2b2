"""Steps that do what a script says, one entry for each invocation: succeed, fail, suspend."""

from __future__ import annotations

import itertools
import threading
from collections import defaultdict
from typing import Any, ClassVar

from dynflow_app import BaseAction, Event, Rescue, Retry
from dynflow_app.actions.context import PlannedAction


class UnsteadyError(Exception):
    """What the script said."""


class Unsteady(BaseAction):
    """Follows its script; after its last entry it succeeds. Notes when it began and ended, in this process."""

    clock: ClassVar = itertools.count()
    began: ClassVar[dict[str, int]] = {}
    ended: ClassVar[dict[str, int]] = {}
    calls: ClassVar[defaultdict[str, int]] = defaultdict(int)
    lock: ClassVar = threading.Lock()

    def run(self, event: Event | None = None) -> None:
        with self.lock:
            self.began[self.step_key] = next(self.clock)
            call = self.calls[self.step_key]
            self.calls[self.step_key] += 1
        deed = self.input["script"][call] if call < len(self.input["script"]) else "ok"
        if deed == "fail":
            raise UnsteadyError
        if deed == "suspend":
            self.suspend(timeout=5)
        if deed == "look":
            self.suspend(wake_after=5)
        self.output["value"] = self.input["name"]
        with self.lock:
            self.ended[self.step_key] = next(self.clock)


class UnsteadyOrSkip(Unsteady):
    """May be given up."""

    rescue_strategy = Rescue.SKIP


class UnsteadyOrAsked(UnsteadyOrSkip):
    """May be given up, and wants to be asked."""

    def on_skip(self) -> None:
        self.output["note"] = "given up"


class UnsteadyAgain(Unsteady):
    """Is tried twice."""

    retry = Retry(attempts=2, delay=3, jitter=0)


KINDS: dict[str, type[Unsteady]] = {kind.__name__: kind for kind in Unsteady.__subclasses__()} | {
    "Unsteady": Unsteady,
    "UnsteadyOrAsked": UnsteadyOrAsked,
}


class UnsteadyPlan(BaseAction):
    """Nested lists: ``["sequence", items]``, ``["concurrence", items]`` or ``["step", [refers to], kind, script]``."""

    def plan(self, program: list[Any]) -> None:
        self.leaves: list[PlannedAction] = []
        for item in program:
            self._place(item)

    def _place(self, item: list[Any]) -> None:
        if item[0] != "step":
            with self.sequence() if item[0] == "sequence" else self.concurrence():
                for each in item[1]:
                    self._place(each)
            return
        _, refers, kind, script = item
        of = [self.leaves[number].output["value"] for number in refers]
        name = str(len(self.leaves))
        self.leaves.append(self.plan_action(KINDS[kind], name=name, of=of, script=script))
