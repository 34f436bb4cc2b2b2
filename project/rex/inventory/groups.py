"""The tree of groups while it is being read, and how hosts inherit from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from typing import Any

from project.rex.inventory.errors import InventoryError, Place
from project.rex.inventory.hosts import Host
from project.rex.inventory.ranges import expand
from project.rex.inventory.settings import ALL_NAMES, Layer, connection_settings
from project.rex.inventory.values import check_variables

ALL, UNGROUPED = "all", "ungrouped"


@dataclass
class Group:
    """A group as the file describes it, with the line that mentions it first."""

    name: str
    place: Place
    variables: dict[str, Any] = field(default_factory=dict)
    children: dict[str, Place] = field(default_factory=dict)
    members: dict[str, None] = field(default_factory=dict)


class GroupTree:
    """Collects what a file says, in any order, and makes hosts of it once it has ended."""

    def __init__(self, file: str) -> None:
        """Start with the groups that always exist: ``all``, and ``ungrouped`` for other hosts."""
        self.file = file
        self.groups = {name: Group(name, Place(file)) for name in (ALL, UNGROUPED)}
        self.host_layers: dict[str, Layer] = {}

    def add_group(self, name: str, place: Place) -> Group:
        """Return the group ``name``, made at ``place`` if the file has not mentioned it yet.

        Raises ``InventoryError`` if the name cannot be one.
        """
        if not name or any(char.isspace() or char in ",!:[]*?" for char in name):
            remedy = "use letters, digits, '-', '_' and '.'"
            raise InventoryError(f"{name!r} is not a group name", remedy, place)
        return self.groups.setdefault(name, Group(name, place))

    def add_variables(self, group: Group, variables: Mapping[Any, Any], place: Place) -> None:
        """Give ``group`` variables; its later ones win."""
        group.variables |= check_variables(variables, f"group {group.name}", place)

    def add_hosts(self, group: Group, pattern: str, variables: Mapping[Any, Any], place: Place) -> None:
        """Put the host or range ``pattern`` into ``group``, with variables of its own."""
        checked = check_variables(variables, f"host {pattern}", place)
        for name in expand(pattern, place):
            group.members[name] = None
            known = self.host_layers.get(name, Layer({}, place)).variables
            self.host_layers[name] = Layer(known | checked, place)

    def add_child(self, parent: Group, child: str, place: Place) -> None:
        """Make ``child``, which may be defined later, a child of ``parent``.

        Raises ``InventoryError`` if it is one already.
        """
        if child in parent.children:
            first = parent.children[child]
            problem = f"group {parent.name} has the child {child} twice, first at line {first.line}"
            raise InventoryError(problem, "remove one of the two", place)
        parent.children[child] = place

    def hosts(self) -> list[Host]:
        """Make the hosts, in the order of the file, with everything they inherit.

        Raises ``InventoryError`` for undefined or cyclic children and bad connection variables.
        """
        return _Resolver(self).hosts()


class _Resolver:
    """Works out depths, ancestors and inheritance of a tree that is complete."""

    def __init__(self, tree: GroupTree) -> None:
        self.tree, self.groups = tree, tree.groups
        self.parents = self._parents()
        self.depth: dict[str, int] = {}
        self.lineage: dict[str, frozenset[str]] = {}
        for name in self._parents_first():
            above = self.parents[name]
            self.depth[name] = 1 + max((self.depth[parent] for parent in above), default=0)
            self.lineage[name] = frozenset({name}).union(*(self.lineage[p] for p in above))

    def hosts(self) -> list[Host]:
        groups_of: dict[str, set[str]] = {name: set() for name in self.tree.host_layers}
        for group in self.groups.values():
            for name in group.members:
                groups_of[name] |= self.lineage[group.name]
        return [self._host(name, groups) for name, groups in groups_of.items()]

    def _host(self, name: str, groups: set[str]) -> Host:
        own = groups - {ALL, UNGROUPED} or {UNGROUPED}
        ordered = sorted(own, key=lambda group: (self.depth[group], group))
        layers = [self._layer(ALL), *map(self._layer, ordered), self.tree.host_layers[name]]
        variables: dict[str, Any] = {}
        for layer in layers:
            variables |= layer.variables
        for known in ALL_NAMES & variables.keys():
            del variables[known]
        return Host(name, tuple(ordered), variables, **connection_settings(name, layers))

    def _layer(self, group: str) -> Layer:
        return Layer(self.groups[group].variables, self.groups[group].place)

    def _parents(self) -> dict[str, set[str]]:
        parents: dict[str, set[str]] = {name: set() for name in self.groups}
        for group in self.groups.values():
            for child, place in group.children.items():
                if child not in parents:
                    problem = f"group {group.name} has the child {child}, which is not defined"
                    raise InventoryError(problem, f"add a group {child} or remove the line", place)
                parents[child].add(group.name)
        return parents

    def _parents_first(self) -> list[str]:
        try:
            return list(TopologicalSorter(self.parents).static_order())
        except CycleError as error:
            cycle = error.args[1]
            place = max(self.groups[parent].children[child] for parent, child in pairwise(cycle))
            problem = f"groups contain each other: {' > '.join(cycle)}"
            raise InventoryError(problem, "remove one of these children", place) from None
