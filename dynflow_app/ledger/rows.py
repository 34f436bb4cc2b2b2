"""Rows of plans that are not stored yet: plain values, which cost a twentieth of a model instance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from dynflow_app.engine.flow import GateSpec
from dynflow_app.models import ExecutionPlan, ResourceLock
from dynflow_app.states import Phase


class ActionRow:
    """An `Action` to be."""

    __slots__ = ("caller_number", "consumes", "input", "name", "number", "pk")

    def __init__(self, number: int, name: str, caller_number: int | None, given: dict[str, Any] | None = None) -> None:
        self.pk: int | None = None
        self.number = number
        self.name = name
        self.caller_number = caller_number
        self.input: dict[str, Any] = given or {}
        self.consumes: list[int] = []

    @property
    def key(self) -> int:
        """Its key, once it is known."""
        if self.pk is None:
            raise ValueError(f"Action {self.number} has no key yet.")
        return self.pk

    @property
    def class_name(self) -> str:
        """The class without its module."""
        return self.name.rpartition(".")[2]


@dataclass(slots=True)
class StepRow:
    """A `Step` to be."""

    action: ActionRow
    number: int
    phase: Phase
    queue: str
    priority: int
    is_idempotent: bool
    weight: float
    is_awaited: bool = False
    is_ready: bool = False
    gate: int | None = None
    """Position of the gate it waits behind."""
    limit_key: str | None = None
    start_timeout: float | None = None


@dataclass(slots=True)
class PlanRows:
    """Everything of one plan."""

    plan: ExecutionPlan
    actions: Sequence[ActionRow]
    steps: Sequence[StepRow]
    gates: Sequence[GateSpec] = ()
    locks: Sequence[ResourceLock] = ()
    links: Sequence[str] = field(default_factory=tuple)
    is_known: bool = False
    """Whether the plan and its first action are stored already."""

    @property
    def new_actions(self) -> Sequence[ActionRow]:
        """Those that are not stored yet."""
        return self.actions[1:] if self.is_known else self.actions
