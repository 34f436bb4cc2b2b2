"""The flow of a plan as a graph of steps and gates, built while actions are planned.

A step waits for at most one gate. A gate waits for steps and for other gates, and opens when all have ended. So N
steps joined to M steps cost N + M rows, and finishing a step touches only the gates that name it::

    sequence(concurrence(a, b, c), d, e)        a, b, c -> gate 0 -> d -> gate 1 -> e

The graph has no cycle by construction: a step or gate only ever waits for what was planned before it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple


class BlockKind(Enum):
    """How the items of a block relate to each other."""

    SEQUENCE = "sequence"
    CONCURRENCE = "concurrence"


class Node(NamedTuple):
    """A step (by number) or a gate (by position) that something can wait for."""

    is_gate: bool
    number: int


@dataclass(slots=True)
class GateSpec:
    """A gate to be stored: the steps (numbers) and the gates (positions) it waits for."""

    steps: list[int] = field(default_factory=list)
    gates: list[int] = field(default_factory=list)


@dataclass(slots=True)
class _Block:
    kind: BlockKind
    entry: Node | None
    exits: list[Node] = field(default_factory=list)


class Flow:
    """Builds the graph. Blocks nest; the outermost is a concurrence."""

    def __init__(self) -> None:
        self.gates: list[GateSpec] = []
        self.awaited: set[int] = set()
        """Numbers of the steps that some gate waits for."""
        self._by_nodes: dict[frozenset[Node], int] = {}
        self._blocks = [_Block(BlockKind.CONCURRENCE, None)]

    def open(self, kind: BlockKind) -> None:
        """Begin a nested block at the current place."""
        self._blocks.append(_Block(kind, self._entry()))

    def close(self) -> None:
        """End the innermost block; it becomes one item of the block around it."""
        block = self._blocks.pop()
        if block.exits:
            self._add(block.exits)

    def add_step(self, number: int, refers_to: set[int]) -> int | None:
        """Place step `number` here; it also waits for the steps `refers_to`. Returns its gate, if it needs one."""
        entry = self._entry()
        nodes = {Node(False, other) for other in refers_to}
        if entry is not None:
            nodes -= self._members(entry)
            nodes.add(entry)
        self._add([Node(False, number)])
        return self._gate_after(frozenset(nodes)) if nodes else None

    def _entry(self) -> Node | None:
        block = self._blocks[-1]
        if block.kind is BlockKind.CONCURRENCE or not block.exits:
            return block.entry
        if len(block.exits) > 1:
            block.exits = [Node(True, self._gate_after(frozenset(block.exits)))]
        return block.exits[0]

    def _add(self, exits: list[Node]) -> None:
        block = self._blocks[-1]
        if block.kind is BlockKind.SEQUENCE:
            block.exits = exits
        else:
            block.exits.extend(exits)

    def _members(self, node: Node) -> set[Node]:
        if not node.is_gate:
            return {node}
        return {Node(False, number) for number in self.gates[node.number].steps}

    def _gate_after(self, nodes: frozenset[Node]) -> int:
        if len(nodes) == 1 and (only := next(iter(nodes))).is_gate:
            return only.number
        known = self._by_nodes.get(nodes)
        if known is None:
            known = self._by_nodes[nodes] = len(self.gates)
            steps = sorted(node.number for node in nodes if not node.is_gate)
            self.awaited.update(steps)
            self.gates.append(GateSpec(steps, sorted(node.number for node in nodes if node.is_gate)))
        return known
