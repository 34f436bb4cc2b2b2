"""The YAML form: groups with ``hosts``, ``vars`` and ``children``.

The document is composed to nodes before it becomes values, so that every error knows its line.
Only the safe loader is used: tags that would make Python objects are errors.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

from project.rex.inventory.errors import InventoryError, Place
from project.rex.inventory.groups import Group, GroupTree

Entry = tuple[str, Place, yaml.Node]


def read_yaml(text: str, tree: GroupTree) -> None:
    """Add everything that the YAML document ``text`` says to ``tree``.

    Raises ``InventoryError`` with the line if it is malformed or no inventory.
    """
    try:
        _YamlReader(text, tree).read()
    except yaml.MarkedYAMLError as error:
        raise _malformed(error, tree.file) from None
    except yaml.YAMLError as error:
        remedy = "remove characters that do not print"
        raise InventoryError(f"it is not YAML: {error}", remedy, Place(tree.file)) from None
    except RecursionError:
        problem = "it is nested too deeply"
        raise InventoryError(problem, "flatten its values", Place(tree.file)) from None


class _YamlReader:
    """Walks through the nodes of one document."""

    def __init__(self, text: str, tree: GroupTree) -> None:
        self.loader = yaml.SafeLoader(text)
        self.tree = tree

    def read(self) -> None:
        document = self.loader.get_single_node()
        if document is None:
            raise InventoryError("it is empty", "add a group with hosts", Place(self.tree.file))
        for name, place, body in self._entries(document, "the file"):
            self._read_group(self.tree.add_group(name, place), body)

    def _read_group(self, group: Group, body: yaml.Node) -> None:
        readers = {
            "hosts": self._read_hosts,
            "vars": self._read_variables,
            "children": self._read_children,
        }
        for key, place, value in self._entries(body, f"group {group.name}"):
            if key not in readers:
                problem = f"group {group.name} has the key {key!r}"
                remedy = "use hosts, vars and children only; other groups go under children"
                raise InventoryError(problem, remedy, place)
            readers[key](group, value)

    def _read_hosts(self, group: Group, node: yaml.Node) -> None:
        for pattern, place, variables in self._entries(node, f"hosts of group {group.name}"):
            values = self._values(variables, f"host {pattern}")
            self.tree.add_hosts(group, pattern, values, place)

    def _read_variables(self, group: Group, node: yaml.Node) -> None:
        values = self._values(node, f"vars of group {group.name}")
        self.tree.add_variables(group, values, self._place(node))

    def _read_children(self, group: Group, node: yaml.Node) -> None:
        for name, place, body in self._entries(node, f"children of group {group.name}"):
            self.tree.add_child(group, name, place)
            self._read_group(self.tree.add_group(name, place), body)

    def _values(self, node: yaml.Node, what: str) -> dict[Any, Any]:
        """Make values of the mapping ``node``, nothing being an empty one."""
        list(self._entries(node, what))
        return self.loader.construct_object(node, deep=True) or {}

    def _entries(self, node: yaml.Node, what: str) -> Iterator[Entry]:
        """Yield key, place and value node of a mapping; a value left out is an empty mapping."""
        if isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null":
            return
        if not isinstance(node, yaml.MappingNode):
            remedy = "write 'name:' lines below it, with a colon and without '-'"
            raise InventoryError(f"{what} is no mapping", remedy, self._place(node))
        seen: dict[str, Place] = {}
        for key_node, value in node.value:
            key, place = str(key_node.value), self._place(key_node)
            if key in seen:
                problem = f"{what} has {key} twice, first at line {seen[key].line}"
                raise InventoryError(problem, "remove one of the two", place)
            seen[key] = place
            yield key, place, value

    def _place(self, node: yaml.Node) -> Place:
        return Place(self.tree.file, node.start_mark.line + 1)


def _malformed(error: yaml.MarkedYAMLError, file: str) -> InventoryError:
    line = error.problem_mark.line + 1 if error.problem_mark else None
    context = f" {error.context}" if error.context else ""
    problem = f"it is not YAML: {error.problem}{context}"
    return InventoryError(problem, "correct the line or the one above", Place(file, line))
