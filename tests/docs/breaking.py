"""Actions for the page about rescuing: the second step fails."""

from __future__ import annotations

from dynflow_app import BaseAction


class Works(BaseAction):
    """Nothing can go wrong."""

    def run(self) -> None:
        self.output["fine"] = True


class Outage(BaseAction):
    """Everything goes wrong, until it is over."""

    attempts = 0
    is_over = False

    def run(self) -> None:
        type(self).attempts += 1
        if not self.is_over:
            raise ConnectionError("nobody answers")


class TwoParts(BaseAction):
    """Two steps side by side."""

    def plan(self) -> None:
        self.plan_action(Works)
        self.plan_action(Outage)
