"""The flow of a stored plan, to make other flows of.

As in `dynflow_app.engine.flow`, a step waits for at most one gate, and a gate for steps and gates; but both go by any
keys, such as those of their rows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from dynflow_app.engine.flow import Node


@dataclass(slots=True)
class Graph:
    """What waits for what."""

    gates: dict[int, set[Node]] = field(default_factory=dict)
    """Gate to what it waits for. It comes after those gates that it must wait for, directly or not."""
    gate_of: dict[int, int] = field(default_factory=dict)
    """Step to the gate it waits behind; without the steps that wait for nothing."""

    def after(self, steps: Collection[int]) -> set[int]:
        """The gates that wait for any of `steps`, directly or not."""
        found: set[int] = set()
        for gate, nodes in self.gates.items():
            if any(
                node.number in found if node.is_gate else node.number in steps or self.gate_of.get(node.number) in found
                for node in nodes
            ):
                found.add(gate)
        return found

    def begun(self, done: Collection[int]) -> Graph:
        """The same flow after the steps `done` have ended, in whatever order: none of them is behind a closed gate.

        One that would be waits instead for what of that gate has ended, and what waits for it for the gate, too. So the
        only order that is lost is that between steps that have ended and steps before them that have not.
        """
        steps = {node.number for nodes in self.gates.values() for node in nodes if not node.is_gate}
        closed = self.after(steps.difference(done))
        moved = {step: gate for step, gate in self.gate_of.items() if step in done and gate in closed}
        gates: dict[int, set[Node]] = {}

        def past(node: Node) -> Node | None:
            if not node.is_gate and node.number in done:
                return node
            gate = node.number if node.is_gate else self.gate_of.get(node.number)
            gate = gate if gate not in closed else ~gate if ~gate in gates else None
            return None if gate is None else Node(True, gate)

        for gate, nodes in self.gates.items():
            if gate in closed and (ended := {found for node in nodes if (found := past(node))}):
                gates[~gate] = ended
            gates[gate] = nodes | {Node(True, moved[n]) for is_gate, n in nodes if not is_gate and n in moved}
        gate_of = self.gate_of | {step: ~gate for step, gate in moved.items()}
        gate_of = {step: gate for step, gate in gate_of.items() if gate in gates}
        return Graph(_needed(gates, {*self.gates, *gate_of.values()}), gate_of)

    def reversed(self, kept: Collection[int]) -> Graph:
        """The steps `kept` in reverse order: a gate for each, that waits for what came after it.

        Its size is that of this one, and not of the pairs that meet at a gate.
        """
        behind: dict[int, list[int]] = {}
        for step, gate in self.gate_of.items():
            behind.setdefault(gate, []).append(step)
        waiting: dict[Node, list[int]] = {}
        for gate, nodes in self.gates.items():
            for node in nodes:
                waiting.setdefault(node, []).append(gate)
        made = _Gates()
        opposite: dict[int, int | None] = {}

        def after(node: Node) -> set[Node]:
            return {Node(True, gate) for gate in map(opposite.get, waiting.get(node, ())) if gate is not None}

        for gate in reversed(self.gates):
            nodes = after(Node(True, gate))
            for step in behind.get(gate, ()):
                nodes |= {Node(False, step)} if step in kept else after(Node(False, step))
            opposite[gate] = made.waiting_for(nodes)
        places = {step: made.waiting_for(after(Node(False, step))) for step in kept}
        gate_of = {step: gate for step, gate in places.items() if gate is not None}
        return Graph(_needed(made.all(), gate_of.values()), gate_of)


class _Gates:
    """Gates being made, no two for the same purpose."""

    def __init__(self) -> None:
        self._known: dict[frozenset[Node], int] = {}

    def waiting_for(self, nodes: set[Node]) -> int | None:
        """The gate that opens once all `nodes` have ended; None if there are none."""
        if not nodes:
            return None
        if len(nodes) == 1 and (only := next(iter(nodes))).is_gate:
            return only.number
        return self._known.setdefault(frozenset(nodes), len(self._known))

    def all(self) -> dict[int, set[Node]]:
        """Each gate and what it waits for, those it waits for first."""
        return {gate: set(nodes) for nodes, gate in self._known.items()}


def _needed(gates: dict[int, set[Node]], used: Iterable[int]) -> dict[int, set[Node]]:
    """The gates that are `used`, and those that they wait for."""
    needed = set(used)
    for gate in reversed(gates):
        if gate in needed:
            needed.update(node.number for node in gates[gate] if node.is_gate)
    return {gate: nodes for gate, nodes in gates.items() if gate in needed}
