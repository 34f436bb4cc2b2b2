"""The INI form: ``[group]`` with host lines, ``[group:vars]`` and ``[group:children]``."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Callable

from project.rex.inventory.errors import InventoryError, Place
from project.rex.inventory.groups import UNGROUPED, Group, GroupTree

_SECTION = re.compile(r"\[(?P<group>[^\[\]:]+)(?::(?P<kind>[^\[\]:]+))?\]\s*(?:[#;].*)?")
_HOST_AND_PORT = re.compile(r"(?P<host>(?:[^\[\]:]|\[[^\]]*\])+):(?P<port>\w+)")

Reader = Callable[[Group, str, Place], None]


def read_ini(text: str, tree: GroupTree) -> None:
    """Add everything that the INI ``text`` says to ``tree``.

    Raises ``InventoryError`` with the line if it is malformed.
    """
    reader = _IniReader(tree)
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if stripped and stripped[0] not in "#;":
            reader.read_line(stripped, Place(tree.file, number))
    reader.check_sections()


class _IniReader:
    """Reads line by line, remembering the section."""

    def __init__(self, tree: GroupTree) -> None:
        self.tree = tree
        self.readers: dict[str | None, Reader] = {
            None: self._read_host,
            "hosts": self._read_host,
            "vars": self._read_variable,
            "children": self._read_child,
        }
        self.group, self.read_entry = tree.groups[UNGROUPED], self.readers[None]
        self.defined = set(tree.groups)
        self.only_described: dict[str, Place] = {}

    def read_line(self, line: str, place: Place) -> None:
        if line.startswith("["):
            self._read_section(line, place)
        else:
            self.read_entry(self.group, line, place)

    def check_sections(self) -> None:
        """Raise for a group that has variables but neither hosts nor children."""
        named = {child for group in self.tree.groups.values() for child in group.children}
        for name, place in self.only_described.items():
            if name not in self.defined | named:
                problem = f"[{name}:vars] describes a group that is not defined"
                raise InventoryError(problem, f"add a section [{name}]", place)

    def _read_section(self, line: str, place: Place) -> None:
        match = _SECTION.fullmatch(line)
        if match is None:
            raise InventoryError(f"{line!r} is no section", "write [group] or [group:vars]", place)
        if match["kind"] not in self.readers:
            problem = f"{line!r} has the unknown kind {match['kind']!r}"
            raise InventoryError(problem, "use :vars or :children, or neither for hosts", place)
        self.group = self.tree.add_group(match["group"], place)
        self.read_entry = self.readers[match["kind"]]
        if match["kind"] == "vars":
            self.only_described.setdefault(match["group"], place)
        else:
            self.defined.add(match["group"])

    def _read_host(self, group: Group, line: str, place: Place) -> None:
        pattern, *assignments = _words(line, place)
        variables = dict(_assignment(word, place) for word in assignments)
        if match := _HOST_AND_PORT.fullmatch(pattern):
            pattern, variables = match["host"], {"ansible_port": match["port"]} | variables
        self.tree.add_hosts(group, pattern, variables, place)

    def _read_variable(self, group: Group, line: str, place: Place) -> None:
        name, value = _assignment(line, place)
        self.tree.add_variables(group, {name: value}, place)

    def _read_child(self, group: Group, line: str, place: Place) -> None:
        words = _words(line, place)
        if len(words) != 1:
            raise InventoryError(f"{line!r} is no group", "write one group per line", place)
        self.tree.add_child(group, words[0], place)


def _words(line: str, place: Place) -> list[str]:
    try:
        return shlex.split(line, comments=True)
    except ValueError as error:
        problem = f"{line!r} has no end ({str(error).lower()})"
        raise InventoryError(problem, "close the quotation", place) from None


def _assignment(text: str, place: Place) -> tuple[str, object]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        problem = f"{text!r} is no variable"
        raise InventoryError(problem, "write name=value, with quotes around spaces", place)
    return name.strip(), _value(value.strip())


def _value(text: str) -> object:
    """Take numbers, lists, dicts, ``True`` and ``None`` as Python writes them, the rest as text."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
    return value if isinstance(value, str | int | float | list | dict | None) else text
