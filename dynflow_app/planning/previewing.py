"""What a plan would be: actions and steps of a draft, as plain values."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from dynflow_app.actions.middleware import presented
from dynflow_app.engine.flow import Flow
from dynflow_app.planning.draft import Draft


@dataclass(frozen=True, slots=True)
class ActionPreview:
    """An action that would be in the plan."""

    number: int
    name: str
    caller: int | None
    """Number of the action that plans it."""
    input: dict[str, Any]
    """As it is shown: secrets are masked; output of other actions is a placeholder."""


@dataclass(frozen=True, slots=True)
class StepPreview:
    """A step that would be in the plan."""

    number: int
    phase: str
    action: int
    """Number of its action."""
    queue: str
    priority: int
    waits_for: tuple[int, ...]
    """Numbers of the run steps that have to end first. Finalize steps wait for all run steps."""


@dataclass(frozen=True, slots=True)
class Preview:
    """What `trigger` would store."""

    actions: tuple[ActionPreview, ...]
    steps: tuple[StepPreview, ...]
    locks: dict[str, str] = field(default_factory=dict)
    """Resources that the plan would lock, to *exclusive* or *shared*."""

    @property
    def counts(self) -> dict[str, int]:
        """How many steps there are of each phase."""
        return dict(Counter(step.phase for step in self.steps))

    @property
    def tree(self) -> str:
        """The steps for people, a line each, below the entry action."""
        names = {action.number: action.name.rpartition(".")[2] for action in self.actions}
        rows = [(str(step.number), step.phase, names[step.action], _after(step)) for step in self.steps]
        widths = [max((len(row[n]) for row in rows), default=0) for n in range(3)]
        lines = [names[1]]
        for n, (number, phase, name, after) in enumerate(rows):
            branch = "└─" if n == len(rows) - 1 else "├─"
            line = f"{branch} {number:>{widths[0]}}  {phase:<{widths[1]}}  {name:<{widths[2]}}  {after}"
            lines.append(line.rstrip())
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.tree


def preview_of(draft: Draft) -> Preview:
    """`draft`, which was made, as plain values."""
    waits_for = [_steps_before(draft.flow, gate) for gate in range(len(draft.flow.gates))]
    return Preview(
        actions=tuple(
            ActionPreview(each.number, each.name, each.caller_number, presented(each.name, each.input))
            for each in draft.actions
        ),
        steps=tuple(
            StepPreview(
                number=step.number,
                phase=str(step.phase),
                action=step.action.number,
                queue=step.queue,
                priority=step.priority,
                waits_for=() if step.gate is None else waits_for[step.gate],
            )
            for step in draft.steps
        ),
        locks={lock.name: "shared" if lock.is_shared else "exclusive" for lock in draft.locks.values()},
    )


def _steps_before(flow: Flow, gate: int) -> tuple[int, ...]:
    """The steps that a gate, and the gates before it, wait for."""
    found: set[int] = set()
    ahead, seen = [gate], {gate}
    while ahead:
        spec = flow.gates[ahead.pop()]
        found.update(spec.steps)
        further = set(spec.gates) - seen
        seen |= further
        ahead.extend(further)
    return tuple(sorted(found))


def _after(step: StepPreview) -> str:
    numbers = step.waits_for
    if not numbers:
        return ""
    if len(numbers) > 3 and numbers[-1] - numbers[0] == len(numbers) - 1:
        return f"after {numbers[0]}-{numbers[-1]}"
    return f"after {', '.join(map(str, numbers))}"
