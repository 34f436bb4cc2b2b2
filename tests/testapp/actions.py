"""Actions that record what they do, and plans made of them."""

# long: actions and plans of all scenarios, many and small

from __future__ import annotations

import contextlib
import subprocess
import time
from typing import Any

from django.contrib.auth.models import Group
from django.db import IntegrityError, transaction

from dynflow_app import BaseAction
from dynflow_app.actions.context import PlannedAction
from tests.support import wait_until
from tests.testapp.journal import Journal


class Record(BaseAction):
    """Records that it ran; produces its name as ``value``."""

    def run(self) -> None:
        name = self.input["name"]
        Journal().do(f"run {name}")
        self.output["value"] = name


class RecordFirst(Record):
    """As Record, on a queue of its own, so that a test can run it alone."""

    queue = "first"


class RecordSecond(Record):
    """As RecordFirst, on another queue."""

    queue = "second"


class RecordBoth(Record):
    """As Record, and finalizes."""

    def finalize(self) -> None:
        Journal().do(f"finalize {self.input['name']}")
        self.output["finalized"] = True


class OnlyFinalize(BaseAction):
    """Has nothing to run."""

    def finalize(self) -> None:
        Journal().do(f"finalize {self.input['name']}")


class Nothing(BaseAction):
    """Has neither run nor finalize."""


class RecordAfterSeeing(Record):
    """Runs until the journal has the line ``until``; fails if that never happens."""

    def run(self) -> None:
        wait_until(lambda: self.input["until"] in Journal().lines, timeout=5, describe=self.input["until"])
        super().run()


class RecordSlowly(BaseAction):
    """Takes a moment, as real work does."""

    def run(self) -> None:
        time.sleep(self.input["seconds"])
        Journal().do(f"run {self.input['name']}")


class Echo(BaseAction):
    """Produces what it was given."""

    def run(self) -> None:
        self.output["value"] = self.input["value"]


class Produce(BaseAction):
    """Produces something that no test can pass as input."""

    def run(self) -> None:
        self.output["value"] = UNSTORABLE[self.input["what"]]


class Forget(BaseAction):
    """Keeps its output only until it finalizes."""

    def run(self) -> None:
        self.output["password"] = "temporary"

    def finalize(self) -> None:
        self.output.clear()


class LeaveTransactionOpen(BaseAction):
    """Begins a transaction, and forgets it."""

    def run(self) -> None:
        transaction.atomic().__enter__()


class WriteInRun(BaseAction):
    """Writes to the database when it runs."""

    def run(self) -> None:
        Group.objects.create(name=self.input["name"])


class WriteAfterOpenTransactions(BaseAction):
    """Ten careless steps, more than there are threads, and a careful one after them."""

    def plan(self) -> None:
        with self.sequence():
            with self.concurrence():
                for _ in range(10):
                    self.plan_action(LeaveTransactionOpen)
            self.plan_action(WriteInRun, name="careful")


class FailWith(BaseAction):
    """Fails with a message of these characters."""

    def run(self) -> None:
        raise RuntimeError("".join(map(chr, self.input["codes"])))


UNSTORABLE: dict[str, Any] = {"a tuple": (1, 2), "a NUL": "a\0b", "not a number": float("nan")}


class MakeGroup(BaseAction):
    """Writes to the database when it finalizes."""

    def finalize(self) -> None:
        Group.objects.create(name=self.input["name"])
        Journal().do(f"finalize {self.input['name']}")


class MakeGroupCarelessly(BaseAction):
    """Swallows a database error, after which its transaction is of no use any more."""

    def finalize(self) -> None:
        Journal().do("finalize carelessly")
        with contextlib.suppress(IntegrityError):
            Group.objects.create(name=self.input["name"])


# --- plans -------------------------------------------------------------------------------------------------------


class TwoChains(BaseAction):
    """a1 -> b1 -> c1 beside a2 -> b2 -> c2, ordered by their outputs alone; the heads are on queues of their own."""

    def plan(self) -> None:
        for number, head in (("1", RecordFirst), ("2", RecordSecond)):
            first = self.plan_action(head, name=f"a{number}")
            second = self.plan_action(Record, name=f"b{number}", of=first.output["value"])
            self.plan_action(Record, name=f"c{number}", of=[{"deep": second.output["value"]}])


class Merge(Record):
    """Merges what it was given."""


class Review(BaseAction):
    """sequence(concurrence(ci, review-1, review-2), merge), merge with all three outputs."""

    def plan(self) -> None:
        with self.sequence():
            with self.concurrence():
                ci = self.plan_action(RecordFirst, name="ci")
                reviews = [self.plan_action(Record, name=f"review-{number}") for number in (1, 2)]
            self.plan_action(
                Merge,
                name="merge",
                ci=ci.output["value"],
                reviews=[{"verdict": review.output["value"]} for review in reviews],
            )


class FiveFinalizers(BaseAction):
    """Five actions side by side, each with run and finalize."""

    def plan(self) -> None:
        for number in range(1, 6):
            self.plan_action(RecordBoth, name=str(number))


class Misplanned(BaseAction):
    """Raises while it is planned."""

    def plan(self) -> None:
        raise LookupError("no such host")


class NestedFailure(BaseAction):
    """Its second part raises while planned; its third is never reached."""

    def plan(self) -> None:
        Group.objects.create(name="written while planning")
        self.plan_action(Record, name="before")
        self.plan_action(Misplanned)
        self.plan_action(Record, name="after")


class SwallowedFailure(BaseAction):
    """As NestedFailure, but pretends that nothing happened."""

    def plan(self) -> None:
        try:
            self.plan_action(Misplanned)
        except LookupError:
            self.plan_action(Record, name="after")


class Deploy(BaseAction):
    """build -> (test, lint) -> publish -> announce; test and publish consume outputs; all but announce finalize."""

    def plan(self) -> None:
        with self.sequence():
            build = self.plan_action(RecordBoth, name="build")
            with self.concurrence():
                test = self.plan_action(RecordBoth, name="test", of=build.output["value"])
                self.plan_action(RecordBoth, name="lint")
            self.plan_action(RecordBoth, name="publish", of={"tested": test.output["value"]})
            self.plan_action(Record, name="announce")


class Diamond(BaseAction):
    """a -> b and c; d needs both; e needs b alone, and c does not end before e has run."""

    def plan(self) -> None:
        a = self.plan_action(Record, name="a")
        b = self.plan_action(Record, name="b", of=a.output["value"])
        c = self.plan_action(RecordAfterSeeing, name="c", of=a.output["value"], until="run e")
        self.plan_action(Record, name="d", of=[b.output["value"], c.output["value"]])
        self.plan_action(Record, name="e", of=b.output["value"])


class Rows(BaseAction):
    """Two rows of `width` steps; each of the second waits for all of the first, of which one is on its own queue."""

    def plan(self, width: int) -> None:
        with self.sequence():
            with self.concurrence():
                self.plan_action(RecordFirst, name="first")
                for number in range(width - 1):
                    self.plan_action(Record, name=f"upper-{number}")
            with self.concurrence():
                for number in range(width):
                    self.plan_action(Record, name=f"lower-{number}")


class SlowRows(BaseAction):
    """`rows` rows of `width` steps that take a moment each."""

    def plan(self, rows: int, width: int, seconds: float) -> None:
        with self.sequence():
            for row in range(rows):
                with self.concurrence():
                    for number in range(width):
                        self.plan_action(RecordSlowly, name=f"{row}-{number}", seconds=seconds)


class Leaf(Record):
    """One step of a random plan: records when it starts and when it has ended."""

    def run(self) -> None:
        Journal().write(f"start {self.input['name']}")
        super().run()

    def finalize(self) -> None:
        Journal().do(f"finalize {self.input['name']}")


class RandomPlan(BaseAction):
    """Whatever nested lists say: ``["sequence", items]``, ``["concurrence", items]`` or ``["step", refers to]``."""

    def plan(self, program: list[Any]) -> None:
        self.leaves: list[PlannedAction] = []
        for item in program:
            self._place(item)

    def _place(self, item: list[Any]) -> None:
        kind, inside = item
        if kind == "step":
            name = str(len(self.leaves) + 1)
            of = [self.leaves[number - 1].output["value"] for number in inside]
            self.leaves.append(self.plan_action(Leaf, name=name, of=of))
            return
        with self.sequence() if kind == "sequence" else self.concurrence():
            for each in inside:
                self._place(each)


class Subscribed(Record):
    """What subscribers attach to."""


class Campaign(BaseAction):
    """Two rows of `width` steps, the second after the first, and a finalize."""

    def plan(self, width: int) -> None:
        with self.sequence():
            for row in "ab":
                with self.concurrence():
                    for number in range(width):
                        self.plan_action(Record, name=f"{row}-{number}")
        self.plan_self(name="campaign")

    def finalize(self) -> None:
        Journal().do("finalize campaign")


class LockedCampaign(Campaign):
    """One about whose start and end the orchestrator has to decide, since others could want what it locks."""

    def plan(self, width: int) -> None:
        self.lock("campaign")
        super().plan(width)


class SubscriberOne(Record):
    """The first."""

    subscribe_to = Subscribed


class SubscriberTwo(Record):
    """The second."""

    subscribe_to = Subscribed


class SubscriberSubclass(SubscriberTwo):
    """Does not inherit the subscription: otherwise each specialisation would attach once more."""


class RecordSlowlyAgain(RecordSlowly):
    """As RecordSlowly, and may be repeated."""

    idempotent = True


class SlowRowsThatMayBeRepeated(BaseAction):
    """`width` steps side by side that take a moment each and may be repeated."""

    def plan(self, width: int, seconds: float) -> None:
        for number in range(width):
            self.plan_action(RecordSlowlyAgain, name=str(number), seconds=seconds)


class RunSubprocess(BaseAction):
    """Lets another program do the work."""

    def run(self) -> None:
        subprocess.run(["/bin/sleep", "0.05"], check=True)
        Journal().do(f"run {self.input['name']}")


class Subprocesses(BaseAction):
    """`width` of them."""

    def plan(self, width: int) -> None:
        for number in range(width):
            self.plan_action(RunSubprocess, name=str(number))
