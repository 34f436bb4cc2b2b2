"""Actions that fail, wait, are cancelled and are undone, for the scenarios about one plan."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

from django.contrib.auth.models import Group

from dynflow_app import BaseAction, Cancel, Event, Rescue, Retry
from tests.testapp.actions import Record
from tests.testapp.journal import Journal


class RecordOrSkip(Record):
    """May be given up; leaves a note then."""

    rescue_strategy = Rescue.SKIP

    def on_skip(self) -> None:
        assert self.error is not None
        Journal().do(f"skip {self.input['name']}")
        self.output["note"] = self.error["message"]

    def finalize(self) -> None:
        Journal().do(f"finalize {self.input['name']}")


class RecordOrFail(Record):
    """Whose failure stops the plan."""

    rescue_strategy = Rescue.FAIL


class RecordOrDecide(Record):
    """Decides in code, by its input, which strategy it suggests."""

    def rescue_strategy(self) -> Rescue:
        Journal().do("decide")
        return Rescue(self.input["suggests"])


class RecordOrRevert(Record):
    """Whose failure undoes the plan."""

    rescue_strategy = Rescue.REVERT


class Undoable(Record):
    """Can be undone."""

    def revert(self) -> None:
        Journal().do(f"revert {self.input['name']}")


class RescueOfParts(BaseAction):
    """Two skippable parts; the whole insists on a pause."""

    def plan(self) -> None:
        self.plan_action(RecordOrSkip, name="a")
        self.plan_action(RecordOrSkip, name="b")

    def combine_rescue(self, suggestions: list[Rescue]) -> Rescue:
        Journal().write("combine " + ",".join(suggestions))
        return Rescue.PAUSE


class Mixed(BaseAction):
    """Two parts that suggest different things."""

    def plan(self) -> None:
        self.plan_action(RecordOrSkip, name="a")
        self.plan_action(RecordOrFail, name="b")


class AllFail(BaseAction):
    """sequence(concurrence(ok, failing), later-1, later-2); each failure stops the plan."""

    def plan(self) -> None:
        with self.sequence():
            with self.concurrence():
                self.plan_action(RecordOrFail, name="ok")
                self.plan_action(RecordOrFail, name="failing")
            self.plan_action(RecordOrFail, name="later-1")
            self.plan_action(RecordOrFail, name="later-2")


class UndoneOnFailure(BaseAction):
    """Three undoable steps in a row, then one whose failure undoes them."""

    def plan(self) -> None:
        with self.sequence():
            for name in "abc":
                self.plan_action(Undoable, name=name)
            self.plan_action(RecordOrRevert, name="d")


class FailFast(BaseAction):
    """`first` alone on its queue, beside a row that is released late; nothing starts after the first error."""

    fail_fast = True

    def plan(self) -> None:
        with self.sequence():
            self.plan_action(Record, name="gate")
            with self.concurrence():
                self.plan_action(Record, name="failing")
                with self.sequence():
                    self.plan_action(SecondRecord, name="beside")
                    self.plan_action(Record, name="after")


class SecondRecord(Record):
    """On a queue of its own."""

    queue = "second"


class RecordAgain(Record):
    """Is tried three times."""

    retry = Retry(attempts=3, delay=10, backoff=3, jitter=0)

    def run(self) -> None:
        Journal().write(f"key {self.step_key}")
        super().run()


class Waits(BaseAction):
    """Waits for events until one is called ``end``."""

    def run(self, event: Event | None = None) -> None:
        if event is not None:
            self.output.setdefault("got", []).append([event.name, event.data])
        if event is None or event.name != "end":
            self.suspend()


class WaitsFor60(BaseAction):
    """Waits for any event, a minute at most."""

    def run(self, event: Event | None = None) -> None:
        if event is None:
            self.suspend(timeout=60)
        self.output["got"] = event.name


class WakesItself(BaseAction):
    """Sends itself an event, after the seconds in its input."""

    def run(self, event: Event | None = None) -> None:
        if event is None:
            self.send_event("later", 7, after=self.input["after"])
            self.suspend()
        self.output["got"] = event.data


class AnswersCancel(Waits):
    """A clean handler: says that it was cancelled, and ends well."""

    def cancel(self) -> None:
        self.output["cancelled"] = True
        Journal().do("cancel")


class GivesUpOnCancel(Waits):
    """Its handler tidies up and agrees."""

    def cancel(self) -> None:
        Journal().do("cancel")
        raise Cancel


class WritesOnce(BaseAction):
    """Writes to the database and fails if told to, in one transaction with its record."""

    atomic = True

    def run(self) -> None:
        Group.objects.create(name=self.input["name"])
        Journal().do(f"run {self.input['name']}")


class Hooked(Record):
    """Tells the journal what became of its plan."""

    def on_success(self) -> None:
        Journal().do("on_success")

    def on_failure(self) -> None:
        Journal().do("on_failure")

    def on_stopped(self) -> None:
        Journal().do("on_stopped")

    def on_paused(self) -> None:
        Journal().do("on_paused")


class Unhooked(Hooked):
    """Has disabled an inherited hook."""

    on_success = None  # type: ignore[assignment]


class Secretive(BaseAction):
    """Says its secret wherever it can."""

    sensitive = frozenset({"pin"})

    def run(self) -> None:
        self.log(f"the pin is {self.input['pin']}")
        self.output["pin"] = self.input["pin"]
        raise RuntimeError(f"wrong pin: {self.input['pin']}")


class Weighty(BaseAction):
    """A run of weight 4, a poll of weight 1 at 20 %, and a finalize of weight 5."""

    def plan(self) -> None:
        self.plan_action(Heavy, name="heavy")
        self.plan_action(Light)


class Heavy(Record):
    """Weighs 4."""

    weight = 4.0


class Light(BaseAction):
    """Has come a fifth of the way; its finalize weighs 5."""

    finalize_weight = 5.0

    def run(self, event: Event | None = None) -> None:
        if event is None:
            self.progress(1, 5)
            self.suspend()

    def finalize(self) -> None:
        Journal().do("finalize")


class Loops(BaseAction):
    """Runs until it is told to end: politely, or not."""

    def run(self) -> None:
        Journal().do("loops")
        while True:
            if self.input["listens"]:
                self.check_cancelled()
            time.sleep(0.01)


class LoopsAsync(BaseAction):
    """A coroutine that never ends by itself."""

    async def run(self) -> None:
        Journal().do("loops")
        await asyncio.sleep(1000)


class LoopsAlone(Loops):
    """In a process of its own."""

    isolated = True


class SleepsInC(BaseAction):
    """Sits where no exception reaches it."""

    def run(self) -> None:
        Journal().do("loops")
        time.sleep(self.input["seconds"])


class OverTime(SleepsInC):
    """Has half a second."""

    timeout = timedelta(seconds=0.5)
