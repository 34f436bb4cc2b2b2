"""Actions that lock resources."""

from __future__ import annotations

from typing import Any

from django.db.models import Model

from dynflow_app import BaseAction, OnConflict
from tests.testapp.journal import Journal


class UseHost(BaseAction):
    """Locks what it is given, and records that it ran."""

    def plan(self, name: str, *resources: Any, shared: tuple[Any, ...] = (), links: tuple[Any, ...] = ()) -> None:
        for resource in resources:
            self.lock(resource)
        for resource in shared:
            self.lock(resource, shared=True)
        for resource in links:
            self.link(resource)
        self.plan_self(name=name)

    def run(self) -> None:
        Journal().do(f"run {self.input['name']}")


class UseHostWhile(UseHost):
    """As UseHost, until an event tells it to end."""

    def run(self, event: Any = None) -> None:
        if event is None:
            Journal().do(f"begin {self.input['name']}")
            self.suspend()
        Journal().do(f"end {self.input['name']}")


class UseHostOrFail(UseHost):
    """Does not wait."""

    on_conflict = OnConflict.FAIL


class UseHostOrSkip(UseHost):
    """Is not that important."""

    on_conflict = OnConflict.SKIP


class LockTwice(BaseAction):
    """Locks the same thing shared and exclusively, itself and in an action that it plans."""

    def plan(self, resource: Model) -> None:
        self.lock(resource, shared=True)
        self.plan_action(UseHost, "inner", resource)
        self.lock(resource, shared=True)


class UnlockEarly(BaseAction):
    """Needs its resource in its first step only."""

    def plan(self, resource: str) -> None:
        self.lock(resource)
        with self.sequence():
            self.plan_action(Unlock, resource=resource)
            self.plan_action(WaitForEnd, name="rest")


class Unlock(BaseAction):
    """Gives the resource back, if it is not broken."""

    idempotent = True

    def run(self) -> None:
        self.unlock(self.input["resource"])
        Journal().do("run unlock")


class WaitForEnd(BaseAction):
    """Waits for an event."""

    def run(self, event: Any = None) -> None:
        if event is None:
            self.suspend()


class OnlyOne(BaseAction):
    """Only one plan of it may be active."""

    singleton = True

    def run(self) -> None:
        Journal().do(f"run {self.input['name']}")


class Undoable(UseHost):
    """Can be undone."""

    def revert(self) -> None:
        Journal().do(f"revert {self.input['name']}")
