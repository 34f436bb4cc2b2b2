"""Brings stored plans into any state without running them, and reads from rows what order they imply."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import groupby

from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import HealthCheck, Phase
from hypothesis import settings as hypothesis_settings

from dynflow_app.engine.flow import Node
from dynflow_app.ledger.counting import count_active
from dynflow_app.ledger.effects import Effects
from dynflow_app.ledger.releasing import open_gates
from dynflow_app.ledger.skipping import give_up
from dynflow_app.models import Action, Dependency, ExecutionPlan, Step, Ticket
from dynflow_app.payloads.json import resolve
from dynflow_app.states import FLOW_PHASES, StepState
from tests.invariants import violations
from tests.unit.engine.test_flow_properties import Order, closed

EXAMPLES = hypothesis_settings(
    max_examples=40,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # databases are too slow to look for the smallest example
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@contextmanager
def example(seed: int) -> Iterator[random.Random]:
    """One example of a property: rolled back at its end, and the ledger makes sense then."""
    with transaction.atomic():
        yield random.Random(seed)
        assert violations() == []
        transaction.set_rollback(True)


def named(plan: ExecutionPlan, name: str) -> Step:
    """The run step of the action whose input has that name."""
    return Step.objects.select_related("action").get(plan=plan, phase="run", action__input__name=name)


def succeed(step: Step) -> None:
    """As if a worker had run the step: it leaves its name as ``value``."""
    action = step.action
    if action.consumes:
        outputs = dict(Action.objects.filter(plan=step.plan_id).values_list("number", "output"))
        action.planned_input, action.input = action.input, resolve(action.input, outputs)
    action.output = {"value": action.input.get("name", "")}
    action.save()
    _claim(step)
    step.state, step.attempt, step.worker = StepState.SUCCESS, 1, "w"
    step.started_at, step.ended_at = timezone.now(), timezone.now()
    step.save()
    open_gates([step.pk], (), Effects())


def fail(step: Step) -> None:
    """As if a worker had run the step in vain."""
    _claim(step)
    Step.objects.filter(pk=step.pk).update(state=StepState.ERROR, attempt=1, error={"message": "broken"})


def skip(step: Step) -> None:
    """As if it had failed and an operator had given it up."""
    fail(step)
    give_up([step], (), Effects())


def _claim(step: Step) -> None:
    """If its plan has started, nobody else may run it, and it is not active any more when it has ended."""
    if Ticket.objects.withdraw([step.pk]):
        effects = Effects()
        effects.ended([step.plan_id])
        count_active(effects)


def unblocked(plan: ExecutionPlan) -> list[Step]:
    """The steps that could start now."""
    steps = Step.objects.filter(plan=plan, phase__in=FLOW_PHASES, state__in=(StepState.PENDING, StepState.READY))
    return list(steps.exclude(gate__waits_for__gt=0).select_related("action").order_by("number"))


def complete(plan: ExecutionPlan, but: str = "") -> None:
    """Let every run or revert step succeed that can; the one named `but` fails."""
    while ready := unblocked(plan):
        for step in ready:
            (fail if step.action.input.get("name") == but else succeed)(step)


def live_through(plan: ExecutionPlan, chance: random.Random) -> set[int]:
    """Let some steps succeed, some fail and some be skipped, in any order; returns the numbers of what succeeded."""
    left = chance.randint(0, 2 * plan.steps.count())
    while (ready := unblocked(plan)) and left:
        left -= 1
        chance.choices([succeed, fail, skip], [10, 1, 1])[0](chance.choice(ready))
    names = plan.steps.filter(phase="run", state="success").values_list("action__input__name", flat=True)
    return set(map(int, names))


def order_of(plan: ExecutionPlan, phase: str = "run") -> Order:
    """For the name (a number) of each step the names of those that must end before it, as the rows say."""
    waits: dict[int, set[Node]] = {}
    for gate, step, after in Dependency.objects.filter(gate__plan=plan).values_list("gate", "step", "after_gate"):
        waits.setdefault(gate, set()).add(Node(True, after) if after else Node(False, step))
    steps = {step.pk: step for step in Step.objects.filter(plan=plan, phase=phase).select_related("action")}
    names = {key: int(step.action.input["name"]) for key, step in steps.items()}

    def behind(gate: int | None) -> set[int]:
        nodes = waits[gate] if gate else ()
        return set().union(*(behind(node.number) if node.is_gate else {node.number} for node in nodes))

    in_order = sorted(steps, key=lambda key: steps[key].number)
    direct = {position: set(map(in_order.index, behind(steps[key].gate_id))) for position, key in enumerate(in_order)}
    name = {position: names[key] for position, key in enumerate(in_order)}
    return {name[position]: {name[each] for each in before} for position, before in closed(direct).items()}


def run_to_the_end(plan: ExecutionPlan, chance: random.Random) -> list[int]:
    """Let everything succeed that can, one after the other, in any order; returns the names (numbers) in that order."""
    names = []
    while ready := unblocked(plan):
        step = chance.choice(ready)
        succeed(step)
        names.append(int(step.action.input["name"]))
    return names


def statements(call: Callable[[], object]) -> list[str]:
    """The statements that `call` makes, in short; insertions into one table that follow each other count as one."""
    with CaptureQueriesContext(connection) as queries:
        call()
    kinds = [" ".join(re.findall(r"^\w+|(?:INTO|FROM) \"\w+\"", query["sql"])) for query in queries]
    return [kind for kind, _ in groupby(kinds)]
