"""Actions whose plan phase is of interest, for plans that workers plan."""

from __future__ import annotations

from django.contrib.auth.models import Group

from dynflow_app import BaseAction
from dynflow_app.exceptions import WrongStateError
from tests.testapp.actions import Record
from tests.testapp.journal import Journal


class PlansParts(BaseAction):
    """One part after the other, and a finalize phase."""

    def plan(self, names: list[str]) -> None:
        Journal().write(f"plan {' '.join(names)}")
        with self.sequence():
            for name in names:
                self.plan_action(Record, name=name)
        self.plan_self()

    def finalize(self) -> None:
        self.output["done"] = True


class PlansForGroup(BaseAction):
    """Takes a row."""

    def plan(self, group: Group) -> None:
        self.plan_action(Record, name=group.name)


class MeddlesWhilePlanning(BaseAction):
    """Uses a verb on itself that its state forbids."""

    def plan(self) -> None:
        raise WrongStateError("not now", state="planning")


class FailsToPlan(BaseAction):
    """Has written something by then."""

    def plan(self) -> None:
        Group.objects.create(name="half")
        raise LookupError("no such host")
