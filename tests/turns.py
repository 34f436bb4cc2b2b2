"""A worker without threads, whose every choice follows from a seed; both ways of the ledger; and what it holds, as
plain values that can be compared."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import pytest
from django.db import connection
from django.db.models import DateTimeField, Field, JSONField, Model

from dynflow_app.actions import registry
from dynflow_app.ledger import inserting, turning
from dynflow_app.ledger.claiming import outputs_for
from dynflow_app.ledger.concluding import announce_effects
from dynflow_app.messages import Claimed, EndedAs, Outcome
from dynflow_app.models import (
    Action,
    Attempt,
    Dependency,
    Envelope,
    Event,
    ExecutionPlan,
    Gate,
    Limit,
    ResourceLock,
    Step,
    SubPlans,
    Ticket,
    World,
)
from dynflow_app.states import Phase, StepState
from dynflow_app.worker.executor import execute
from dynflow_app.worker.invocation import Invocation
from dynflow_app.worker.outcomes import blank, handed_back
from dynflow_app.worker.recorder import Recorder, Turned, Written
from dynflow_app.worker.shared_transactions import SharedWork
from tests.invariants import violations

Row = tuple[Any, ...]


class Silence:
    """Nobody reads what steps say."""

    def log(self, step: Claimed, text: str) -> None:
        """Not kept."""

    def report(self, step: Claimed, progress: float) -> None:
        """Not kept."""


class Worker:
    """Claims, runs and records in the test's own thread, in an order that `chance` decides."""

    def __init__(self, world: World, chance: random.Random, queues: Sequence[str] = ("default", "second")) -> None:
        self.world = world
        self.recorder = Recorder(world, queues)
        self._chance = chance
        self._in_hand: list[Claimed] = []
        self._outcomes: list[Outcome] = []

    def work(self) -> int:
        """Until nothing is ready and nothing is in hand; returns the number of turns."""
        turns = 0
        while True:
            limit = self._chance.choice([2, 10, 50])
            turned = self.recorder.turn(Written(outcomes=self._outcomes), limit)
            announce_effects(turned.effects)
            self._outcomes = []
            outputs = {step.step_id: turned.outputs.get(step.plan_id) for step in turned.claimed}
            self._in_hand += turned.claimed
            if not self._in_hand and not turned.claimed:
                return turns
            for _ in range(self._chance.randint(len(self._in_hand) // 2, len(self._in_hand))):
                self._run(self._in_hand.pop(self._chance.randrange(len(self._in_hand))), outputs)
            turns += 1

    def _run(self, step: Claimed, outputs: dict[int, Any]) -> None:
        if self._chance.random() < 0.03:
            self._outcomes.append(handed_back(step))
            return
        given = outputs.get(step.step_id) or outputs_of(step)
        action_class = registry.known(step.action_name)
        is_atomic = step.phase == Phase.RUN and action_class is not None and action_class.atomic
        if is_atomic or step.phase in (Phase.PLAN, Phase.FINALIZE):
            work = SharedWork(step, given, Invocation(step), self.world, Silence())
            ended = work.run(lambda: None)
            announce_effects(ended.effects)
            self._outcomes += ended.outcomes
        else:
            self._outcomes.append(execute(step, given, Invocation(step), Silence()))


def run_alone(step: Claimed) -> Outcome:
    """Run the code of a step that was claimed, in the test's own thread, and record nothing."""
    return execute(step, outputs_of(step), Invocation(step), Silence())


def outputs_of(step: Claimed) -> dict[int, Any] | None:
    """What the input of this step refers to; it has ended, so it does not matter when one looks."""
    return outputs_for([step]).get(step.plan_id)


class Turns:
    """A worker of which only the turns are real."""

    def __init__(self, world: World) -> None:
        self.recorder = Recorder(world, ("default", "second"))

    def claim(self, limit: int = 10) -> list[Claimed]:
        """The next steps."""
        return self._turn([], limit).claimed

    def end(self, steps: Sequence[Claimed]) -> Turned:
        """These have succeeded."""
        return self._turn([blank(step, StepState.SUCCESS, EndedAs.SUCCEEDED) for step in steps], 0)

    def give_back(self, steps: Sequence[Claimed]) -> Turned:
        """These were not started."""
        return self._turn([handed_back(step) for step in steps], 0)

    def record(self, *outcomes: Outcome) -> Turned:
        """Whatever became of them."""
        return self._turn(outcomes, 0)

    def _turn(self, outcomes: Sequence[Outcome], limit: int) -> Turned:
        turned = self.recorder.turn(Written(outcomes=list(outcomes)), limit)
        announce_effects(turned.effects)
        assert violations() == []
        return turned


class Taken(Counter[str]):
    """How often the functions of the database did it, and how often they left it to the general way."""


@contextmanager
def functions() -> Iterator[Taken]:
    """The normal way, counted."""
    taken = Taken()
    turn = turning.turn

    def counted(outcomes: Sequence[Outcome], **kwargs: Any) -> Any:
        try:
            turned = turn(outcomes, **kwargs)
        except turning.UnusualError:
            taken["unusual"] += 1
            raise
        taken["usual" if outcomes else "claims"] += 1
        return turned

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(turning, "turn", counted)
        patch.setattr(turning, "UNBOUNDED", -1.0)  # exactly in turn, also just after a queue was empty
        yield taken


@contextmanager
def general() -> Iterator[Taken]:
    """Without any function of the database, and without copying."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(turning, "can_turn", lambda outcomes: False)
        patch.setattr(inserting, "insert_plans", inserting_portably)
        patch.setattr("dynflow_app.planning.storing.insert_plans", inserting_portably)
        yield Taken()


@contextmanager
def one_way(name: str) -> Iterator[Taken]:
    """The way of that name; elsewhere than on PostgreSQL there is one only."""
    if connection.vendor != "postgresql":
        yield Taken()
        return
    with functions() if name == "function" else general() as taken:
        yield taken


def inserting_portably(plans: Any) -> None:
    """As any database would."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inserting, "is_postgresql", lambda connection: False)
        _insert_plans(plans)


_insert_plans = inserting.insert_plans

# --- what the ledger holds -----------------------------------------------------------------------------------------

MODELS: tuple[type[Model], ...] = (
    ExecutionPlan, Action, Step, Gate, Dependency, Attempt, Event, Envelope, Ticket, SubPlans, Limit, ResourceLock,
)  # fmt: skip
_UUID = re.compile("[0-9a-f]{8}-[0-9a-f-]{27}")


def ledger() -> dict[str, list[str]]:
    """Table to its rows: all columns, with names in place of keys, and of times only whether they are there."""
    return _Reader().tables()


class _Reader:
    def __init__(self) -> None:
        self.steps = dict(Step.objects.values_list("pk", "number"))
        self.plan_of = dict(Step.objects.values_list("pk", "plan_id"))
        self.plans: dict[UUID, str] = {}
        rows = list(ExecutionPlan.objects.order_by("created_at").values_list("pk", "label", "parent_step", "position"))
        while rows:
            later = []
            for key, label, parent, position in rows:
                if parent is None:
                    self.plans[key] = label
                elif self.plan_of[parent] in self.plans:
                    self.plans[key] = f"{self.plans[self.plan_of[parent]]}/{self.steps[parent]}/{position}"
                else:
                    later.append((key, label, parent, position))
            rows = later
        self.step = {key: f"{self.plans[plan]}#{self.steps[key]}" for key, plan in self.plan_of.items()}
        actions = Action.objects.values_list("pk", "plan_id", "number")
        self.action = {key: f"{self.plans[plan]}@{number}" for key, plan, number in actions}
        self.gate: dict[int, str] = {}
        of_plan: Counter[UUID] = Counter()
        for key, plan in Gate.objects.order_by("pk").values_list("pk", "plan_id"):
            self.gate[key] = f"{self.plans[plan]}|{of_plan[plan]}"
            of_plan[plan] += 1

    def tables(self) -> dict[str, list[str]]:
        return {model.__name__: sorted(self.rows(model)) for model in MODELS}

    def rows(self, model: type[Model]) -> Iterator[str]:
        """Every column, so that none can be forgotten."""
        fields = [field for field in model._meta.concrete_fields if field.is_relation or not field.primary_key]
        shown = [(field.name, self.shown(field)) for field in fields]
        for values in model._default_manager.order_by().values_list(*(field.attname for field in fields)):
            pairs = zip(shown, values, strict=True)
            text = ", ".join(f"{name}={show(value)}" for (name, show), value in pairs if value not in _EMPTY)
            yield _UUID.sub(lambda found: self.plans.get(UUID(found.group()), "?"), text)

    def shown(self, field: Field[Any, Any]) -> Callable[[Any], Any]:
        names: dict[Any, dict[Any, str]] = {
            ExecutionPlan: self.plans, Step: self.step, Action: self.action, Gate: self.gate,
        }  # fmt: skip
        if field.related_model in names or field.name == "step_id":
            return names[field.related_model or Step].get
        if isinstance(field, DateTimeField) or field.name in ("worker", "ran_for", "world"):
            return bool
        return (
            (lambda error: (error["class"], error["message"]))
            if isinstance(field, JSONField) and field.name == "error"
            else str
        )


_EMPTY: tuple[Any, ...] = (None, "", [])
