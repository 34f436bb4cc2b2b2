"""An inventory that has been read, and patterns that select hosts from it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from functools import cached_property

from project.rex.inventory.errors import InventoryError
from project.rex.inventory.hosts import Host
from project.rex.inventory.ranges import expand, is_range


class Inventory:
    """Hosts in the order of their file, and the names of the groups they are in."""

    def __init__(self, hosts: Iterable[Host], groups: Iterable[str] = ()) -> None:
        """Hold ``hosts``; ``groups`` adds names of groups that have no host."""
        self.hosts = tuple(hosts)
        self.groups = frozenset(groups) | {"all"} | {g for h in self.hosts for g in h.groups}

    def __iter__(self) -> Iterator[Host]:
        """Iterate over all hosts in the order of the file."""
        return iter(self.hosts)

    def __len__(self) -> int:
        """Count the hosts."""
        return len(self.hosts)

    def select(self, pattern: str = "all") -> list[Host]:
        """Return the hosts that ``pattern`` names, each once, in the order of the file.

        A pattern is a comma list of hosts, groups, ``all``, globs (``web*``) and ranges; a ``!``
        before one excludes it, wherever it stands. Raises ``InventoryError`` for an unknown name
        and if no host is left.
        """
        terms = [term.strip() for term in pattern.split(",") if term.strip()]
        included = [term for term in terms if not term.startswith("!")]
        wanted = self._names(included or ["all"]) if terms else set()
        wanted -= self._names(term.removeprefix("!") for term in terms if term.startswith("!"))
        if not wanted:
            problem = f"the pattern {pattern!r} leaves no host of {len(self)}"
            raise InventoryError(problem, "name a group, a host, or all")
        return [host for host in self.hosts if host.name in wanted]

    @cached_property
    def _members(self) -> dict[str, set[str]]:
        members: dict[str, set[str]] = {name: set() for name in self.groups}
        members["all"] = {host.name for host in self.hosts}
        for host in self.hosts:
            for group in host.groups:
                members[group].add(host.name)
        return members

    @cached_property
    def _by_name(self) -> dict[str, set[str]]:
        """What each name stands for: a host, a group, or both if they share it."""
        names = {group: set(hosts) for group, hosts in self._members.items()}
        for host in self.hosts:
            names.setdefault(host.name, set()).add(host.name)
        return names

    def _names(self, terms: Iterable[str]) -> set[str]:
        return set().union(*(self._matches(name) for term in terms for name in _spelled(term)))

    def _matches(self, term: str) -> set[str]:
        if term in self._by_name:
            return self._by_name[term]
        if any(character in term for character in "*?["):
            found = [hosts for name, hosts in self._by_name.items() if fnmatchcase(name, term)]
            if found:
                return set().union(*found)
        raise self._unknown(term)

    def _unknown(self, term: str) -> InventoryError:
        near = difflib.get_close_matches(term, self._by_name, n=3, cutoff=0.6)
        groups = ", ".join(sorted(self.groups)[:10])
        hint = f"did you mean {' or '.join(near)}?" if near else f"the groups are {groups}"
        return InventoryError(f"the pattern names {term!r}, which is no host or group", hint)


def _spelled(term: str) -> list[str]:
    return expand(term) if is_range(term) else [term]
