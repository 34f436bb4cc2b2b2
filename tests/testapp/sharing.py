"""Short steps that are recorded in the transaction they write in, and may share it with others."""

from __future__ import annotations

from collections import Counter
from uuid import uuid4

from django.contrib.auth.models import Group

from dynflow_app import BaseAction
from tests.support import wait_until
from tests.testapp.actions import Record
from tests.testapp.journal import Journal


def write(name: str) -> None:
    """Write a row; rows of one name can be counted."""
    Group.objects.create(name=f"{name} {uuid4()}")


def written() -> Counter[str]:
    """How many rows there are of each name."""
    return Counter(name.split()[0] for name in Group.objects.values_list("name", flat=True))


class Write(BaseAction):
    """Writes, together with its record."""

    atomic = True

    def run(self) -> None:
        write(self.input["name"])
        Journal().do(f"run {self.input['name']}")


class WriteToNobody(Write):
    """Refers to what is not there, which the database notices at the commit."""

    def run(self) -> None:
        super().run()
        group = Group.objects.create(name=str(uuid4()))
        Group.permissions.through.objects.create(group_id=group.pk, permission_id=-1)


class WriteAfterGo(Write):
    """Writes when the journal says go."""

    def run(self) -> None:
        Journal().write("waits")
        wait_until(lambda: "go" in Journal().lines, describe="go")
        super().run()


class WriteInPortions(BaseAction):
    """Writes a row each time it looks; it looks four times."""

    atomic = True

    def run(self) -> None:
        looks = self.output["looks"] = self.output.get("looks", 0) + 1
        write(f"look-{looks}")
        if looks < 4:
            self.suspend(wake_after=0)


class WriteAtTheEnd(BaseAction):
    """Writes when the plan finalizes."""

    def finalize(self) -> None:
        write(self.input["name"])
        Journal().do(f"finalize {self.input['name']}")


class Writes(BaseAction):
    """One `Write` after the other is planned, without an order, for these names; a capital letter is `odd`."""

    def plan(self, names: str, odd: type[BaseAction] = Record) -> None:
        for name in names:
            self.plan_action(odd if name.isupper() else Write, name=name)


class WritesAtTheEnd(BaseAction):
    """A finalize phase of these names."""

    def plan(self, names: str) -> None:
        for name in names:
            self.plan_action(WriteAtTheEnd, name=name)


class PlansLater(BaseAction):
    """Writes while it is planned, and plans one step."""

    def plan(self, name: str) -> None:
        write(name)
        Journal().do(f"plan {name}")
        self.plan_action(Record, name=name)
