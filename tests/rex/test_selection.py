"""Patterns that select hosts from an inventory."""

from __future__ import annotations

import pytest

from project.rex.inventory import Host, Inventory, InventoryError

INVENTORY = Inventory(
    [
        Host("web1", ("web", "prod")),
        Host("web2", ("web",)),
        Host("db1", ("db", "prod")),
        Host("db", ("misc",)),
    ],
    groups=["empty"],
)


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("all", "web1 web2 db1 db"),
        ("*", "web1 web2 db1 db"),
        ("web", "web1 web2"),
        ("web2", "web2"),
        ("web[1:2]", "web1 web2"),
        ("web[12]", "web1 web2"),
        ("w*,db1", "web1 web2 db1"),
        (" db1 , web1 ", "web1 db1"),
        ("prod,!web", "db1"),
        ("!web", "db1 db"),
        ("!web*,all", "db1 db"),
        ("db", "db1 db"),
    ],
)
def test_patterns_select_hosts_in_the_order_of_the_file(pattern: str, names: str) -> None:
    assert [host.name for host in INVENTORY.select(pattern)] == names.split()


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("wbe", "'wbe', which is no host or group; did you mean web"),
        ("nothing", "the groups are all, db, empty"),
        ("x*", r"'x\*', which is no host or group"),
        ("all,!wbe1", "'wbe1'"),
        ("web[1:9]", "'web3'"),
        ("web,!web", "leaves no host of 4"),
        ("empty", "leaves no host"),
        ("", "leaves no host"),
    ],
)
def test_patterns_that_select_nothing_are_refused(pattern: str, problem: str) -> None:
    with pytest.raises(InventoryError, match=problem):
        INVENTORY.select(pattern)
