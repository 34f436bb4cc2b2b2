"""Actions about contested things, and about schedules at odd moments."""

from __future__ import annotations

from dynflow_app import BaseAction, Event, OnConflict, Rescue


class Undone(BaseAction):
    """Is undone if it fails, and does not wait for what it locks."""

    on_conflict = OnConflict.FAIL
    rescue_strategy = Rescue.REVERT

    def plan(self) -> None:
        self.lock("contested")
        with self.sequence():
            self.plan_action(Does)
            self.plan_action(Fails)


class Does(BaseAction):
    """Can be undone."""

    rescue_strategy = Rescue.REVERT

    def run(self) -> None:
        self.output["done"] = True

    def revert(self) -> None:
        self.output["undone"] = True


class Fails(BaseAction):
    """Cannot be done."""

    rescue_strategy = Rescue.REVERT

    def run(self) -> None:
        raise ValueError("never")


class OnlyOne(BaseAction):
    """One at a time, until an event."""

    singleton = True

    def run(self, event: Event | None = None) -> None:
        if event is None:
            self.suspend()


class Quick(BaseAction):
    """Over at once."""

    def run(self) -> None:
        self.output["ran"] = True
