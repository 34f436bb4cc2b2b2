"""Plans in which everything occurs: every kind of step, of plan, and sub-plans. Scripts say what each step does."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, ClassVar

from dynflow_app import BaseAction, Event, Retry, SubPlansAction
from dynflow_app.actions.context import PlannedAction
from dynflow_app.actions.sub_plans import SubPlan
from tests.testapp.unsteady import Unsteady, UnsteadyAgain, UnsteadyOrAsked, UnsteadyOrSkip


class Finalizing(Unsteady):
    """Has a finalize phase."""

    def finalize(self) -> None:
        self.output["finalized"] = True


class Fallible(Finalizing):
    """Whose finalize phase fails the first time."""

    tried: ClassVar[set[str]] = set()
    retry = Retry(attempts=3, delay=2, jitter=0)

    def finalize(self) -> None:
        if self.input["script"] and self.step_key not in self.tried:
            self.tried.add(self.step_key)
            raise ValueError("not yet")
        super().finalize()


class Limited(Unsteady):
    """At most two at once."""

    concurrency_key = "mixed"
    concurrency_limit = 2


class Hasty(Unsteady):
    """May wait for a while only."""

    start_timeout = timedelta(days=1)


class Urgent(Unsteady):
    """Comes before others."""

    priority = 2


class Elsewhere(Unsteady):
    """Has another queue."""

    queue = "second"


class Atomic(Unsteady):
    """Is recorded in its own transaction."""

    atomic = True


class Talking(Unsteady):
    """Sends itself what it waits for."""

    def run(self, event: Event | None = None) -> None:
        if event is None and self.input["script"]:
            self.send_event("go", after=0 if len(self.input["script"]) > 1 else 5)
            self.suspend()
        self.output["value"] = event.name if event else self.input["name"]


class Family(SubPlansAction):
    """Makes sub-plans, which have programs of their own."""

    batch_size = 2
    retry = Retry(attempts=2, delay=1, jitter=0)

    def total(self) -> int:
        return len(self.input["programs"])

    def sub_plans(self, start: int, stop: int) -> Iterator[SubPlan]:
        for program in self.input["programs"][start:stop]:
            yield self.sub_plan(Mixed, program=program)

    def finalize(self) -> None:
        self.output["value"] = self.input["name"]


KINDS: dict[str, type[BaseAction]] = {
    kind.__name__: kind
    for kind in (
        Unsteady, UnsteadyAgain, UnsteadyOrAsked, UnsteadyOrSkip, Finalizing, Fallible, Limited, Hasty, Urgent,
        Elsewhere, Atomic, Talking,
    )
}  # fmt: skip
COMMON = ["Unsteady", "Finalizing", "Urgent", "Elsewhere"]
"""What a database's function is for."""


class Mixed(BaseAction):
    """Nested lists: ``["sequence", items]``, ``["concurrence", items]``, ``["step", [refers to], kind, script]`` or
    ``["family", programs]``."""

    def plan(self, program: list[Any]) -> None:
        self.leaves: list[PlannedAction] = []
        self.plan_self(name="entry")
        for item in program:
            self._place(item)

    def _place(self, item: list[Any]) -> None:
        if item[0] == "family":
            self.plan_action(Family, name="family", programs=item[1])
        elif item[0] == "step":
            _, refers, kind, script = item
            of = [self.leaves[number].output["value"] for number in refers]
            self.leaves.append(self.plan_action(KINDS[kind], name=str(len(self.leaves)), of=of, script=script))
        else:
            with self.sequence() if item[0] == "sequence" else self.concurrence():
                for each in item[1]:
                    self._place(each)


class FailingFast(Mixed):
    """Starts nothing any more once a step has failed."""

    fail_fast = True


class Hooked(Mixed):
    """Wants to hear of its end."""

    def on_stopped(self) -> None:
        self.output["heard"] = True


class Locking(Mixed):
    """Needs something for itself."""

    def plan(self, program: list[Any]) -> None:
        self.lock("the mixed resource")
        super().plan(program)


class Weighty(Mixed):
    """Shares its turns with its like, and gets more of them."""

    fairness_key = "weighty"
    fairness_weight = 2.5


class Closing(Mixed):
    """Finalizes after all its parts."""

    def finalize(self) -> None:
        self.output["done"] = True


PLANS: list[type[Mixed]] = [Mixed, Mixed, Mixed, Closing, FailingFast, Hooked, Locking, Weighty]


def program(chance: random.Random, *, size: int, is_common: bool, is_sub_plan: bool = False) -> list[Any]:
    """A random program of at least `size` steps; with `is_common` hardly anything but what most plans are made of."""
    number = 0
    kinds = COMMON if is_common else sorted(KINDS)
    families = 0 if is_sub_plan else chance.choice([0, 0, 0, 1])

    def script() -> list[str]:
        if is_common and chance.random() < 0.98:
            return []
        return chance.choices(["ok", "fail", "suspend", "look"], [6, 2, 1, 1], k=chance.randint(0, 2))

    def block(depth: int) -> list[Any]:
        nonlocal number, families
        inside: list[Any] = []
        for _ in range(chance.randint(1, 4)):
            if depth < 3 and chance.random() < 0.4:
                inside.append([chance.choice(["sequence", "concurrence"]), block(depth + 1)])
            elif families:
                families -= 1
                inside.append(
                    ["family", [program(chance, size=2, is_common=is_common, is_sub_plan=True) for _ in range(3)]]
                )
            else:
                refers = chance.sample(range(number), min(number, chance.choice([0, 0, 1, 2])))
                inside.append(["step", sorted(refers), chance.choice(kinds), script()])
                number += 1
        return inside

    items: list[Any] = []
    while number < size:
        items.append([chance.choice(["sequence", "concurrence"]), block(0)])
    return items
