"""A preview is what would be planned, and leaves no trace."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Group
from django.db import transaction

from dynflow_app import BaseAction
from dynflow_app.exceptions import PlanningError
from dynflow_app.models import Action, Dependency, Envelope, ExecutionPlan, Step
from dynflow_app.triggering import TriggerOptions, preview, trigger
from tests.testapp.actions import Campaign

pytestmark = pytest.mark.django_db


class Disk(BaseAction):
    queue = "first"

    def run(self) -> None: ...


class System(BaseAction):
    sensitive = {"pin"}

    def run(self) -> None: ...

    def finalize(self) -> None: ...


class Host(BaseAction):
    """Three disks beside each other, then a system; then its own run, which needs the first disk only."""

    def plan(self, name: str, disks: int = 3) -> None:
        Group.objects.create(name=name)
        with self.sequence():
            with self.concurrence():
                planned = [self.plan_action(Disk, size=n) for n in range(disks)]
            self.plan_action(System, name=name, password="x", pin=7)
        self.plan_self(name=name, disk=planned[0].output["id"])

    def run(self) -> None: ...


def test_it_shows_actions_and_steps_as_they_would_be() -> None:
    # when a plan is previewed
    found = preview(Host, "web-1", options=TriggerOptions(priority=5))

    # then its actions are there, with who plans them and what they get, but without secrets
    assert [(each.number, each.name.rpartition(".")[2], each.caller) for each in found.actions] == [
        (1, "Host", None), (2, "Disk", 1), (3, "Disk", 1), (4, "Disk", 1), (5, "System", 1),
    ]  # fmt: skip
    assert found.actions[1].input == {"size": 0}
    shown = found.actions[4].input
    assert (shown["name"], "x" in str(shown["password"]), "7" in str(shown["pin"])) == ("web-1", False, False)
    # and its steps, with what each waits for
    assert [(each.number, each.phase, each.action, each.queue, each.waits_for) for each in found.steps] == [
        (1, "run", 2, "first", ()),
        (2, "run", 3, "first", ()),
        (3, "run", 4, "first", ()),
        (4, "run", 5, "default", (1, 2, 3)),
        (5, "finalize", 5, "default", ()),
        (6, "run", 1, "default", (1,)),
    ]
    assert {each.priority for each in found.steps} == {5}
    assert found.counts == {"run": 5, "finalize": 1}
    assert str(found).splitlines() == [
        "Host",
        "├─ 1  run       Disk",
        "├─ 2  run       Disk",
        "├─ 3  run       Disk",
        "├─ 4  run       System  after 1, 2, 3",
        "├─ 5  finalize  System",
        "└─ 6  run       Host    after 1",
    ]


def test_it_leaves_no_trace() -> None:
    # given a transaction in which something was written already
    with transaction.atomic():
        Group.objects.create(name="before")

        # when a plan whose plan() writes is previewed in it, and fails once
        preview(Host, "web-1")
        with pytest.raises(ValueError, match="max"):
            preview(Failing, "web-2")

    # then only what came before is there
    assert set(Group.objects.values_list("name", flat=True)) == {"before"}
    for model in (ExecutionPlan, Action, Step, Dependency, Envelope):
        assert not model._default_manager.exists()


class Failing(BaseAction):
    def plan(self, name: str) -> None:
        Group.objects.create(name=name)
        max([])


def test_it_is_what_is_stored_then() -> None:
    found = preview(Campaign, width=7)
    plan = trigger(Campaign, width=7)

    stored = plan.steps.order_by("number").values_list("number", "phase", "action__number", "queue")
    assert [(each.number, each.phase, each.action, each.queue) for each in found.steps] == list(stored)
    for step in plan.steps.select_related("gate"):
        gates = {step.gate_id} if step.gate_id else set()
        before: set[int] = set()
        while gates:
            rows = Dependency.objects.filter(gate__in=gates)
            before |= set(rows.filter(step__isnull=False).values_list("step__number", flat=True))
            gates = set(rows.filter(after_gate__isnull=False).values_list("after_gate", flat=True))
        assert set(found.steps[step.number - 1].waits_for) == before


def test_many_are_shown_as_a_range_and_none_as_the_action_alone() -> None:
    assert "System  after 1-12" in preview(Host, "web-1", disks=12).tree
    assert preview(Empty).tree == "Empty"
    assert preview(Empty).counts == {}


class Empty(BaseAction):
    pass


def test_what_cannot_be_planned_is_refused_alike() -> None:
    with pytest.raises(PlanningError, match="named arguments only"):
        preview(Disk, 1)
