"""Inventories: what the two file forms mean, and what is said about those that mean nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from project.rex.inventory import Connection, Host, InventoryError, load
from project.rex.inventory.ranges import expand

FIXTURES = Path(__file__).parents[2] / "fixtures"


def written(folder: Path, text: str, name: str = "inventory.yml") -> Path:
    """Write an inventory file and return its path."""
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("web1", ["web1"]),
        ("web[1:3]", ["web1", "web2", "web3"]),
        ("web[08:10].example.com", ["web08.example.com", "web09.example.com", "web10.example.com"]),
        ("db-[a:c]", ["db-a", "db-b", "db-c"]),
        ("n[0:20:10]", ["n0", "n10", "n20"]),
        ("r[1:2]n[a:b]", ["r1na", "r1nb", "r2na", "r2nb"]),
        ("[1:2]x", ["1x", "2x"]),
    ],
)
def test_ranges_stand_for_names(pattern: str, names: list[str]) -> None:
    assert expand(pattern) == names


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("web[3:1]", "stands for no host"),
        ("web[1:9:0]", "stands for no host"),
        ("web[1:c]", "mixes letters and numbers"),
        ("web[1:999999]", "stands for 999,999 hosts"),
        ("web[1:99999][1:99999]", "more than 100,000"),
        ("web[1:2", "is not a host name"),
        ("web[1]", "is not a host name"),
        ("web 1", "is not a host name"),
        ("-oProxyCommand=x", "is not a host name"),
        ("", "is not a host name"),
    ],
)
def test_bad_ranges_and_names_are_refused(pattern: str, problem: str) -> None:
    with pytest.raises(InventoryError, match=problem):
        expand(pattern)


@pytest.mark.parametrize(("file", "count"), [("inventory.yml", 200), ("inventory.ini", 12)])
def test_the_fixtures_are_hosts_of_this_machine(file: str, count: int) -> None:
    inventory = load(FIXTURES / file)

    assert len(inventory) == count
    assert {host.connection for host in inventory} == {Connection.LOCAL}


YAML = """
all:
  vars: {colour: all, depth: 0, ansible_user: root}
  hosts:
    lonely:
  children:
    parent:
      vars: {colour: parent, depth: 1}
      children:
        child:
          vars: {colour: child}
          hosts:
            h1: {colour: host}
            h2:
    zebra:
      hosts:
        h2: {extra: [1, {two: null}]}
"""

INI = """
lonely

[parent:children]
child

[child]
h1 colour=host
h2

[zebra]
h2 extra="[1, {'two': None}]"   # a comment

[all:vars]
colour = all
depth = 0
ansible_user = root
[parent:vars]
colour = parent
depth = 1
; a comment
[child:vars]
colour=child
"""


@pytest.mark.parametrize(("text", "name"), [(YAML, "i.yml"), (INI, "hosts")])
def test_both_forms_mean_the_same(tmp_path: Path, text: str, name: str) -> None:
    hosts = {host.name: host for host in load(written(tmp_path, text, name))}

    assert dict(hosts["lonely"].variables) == {"colour": "all", "depth": 0}
    assert dict(hosts["h1"].variables) == {"colour": "host", "depth": 1}
    assert dict(hosts["h2"].variables) == {
        "colour": "child",
        "depth": 1,
        "extra": [1, {"two": None}],
    }
    assert hosts["lonely"].groups == ("ungrouped",)
    assert hosts["h2"].groups == ("parent", "zebra", "child")
    assert {host.user for host in hosts.values()} == {"root"}


def test_connection_variables_under_both_names(tmp_path: Path) -> None:
    text = """
g:
  vars: {ansible_port: 2222, key_file: keys/id, ansible_connection: ssh, known_hosts: ~/kh}
  hosts:
    a: {host: 10.0.0.1, user: admin}
    b: {port: "2200", connection: local, ansible_host: b.lan, ansible_ssh_private_key_file: /k}
"""
    a, b = load(written(tmp_path, text)).hosts

    assert (a.address, a.port, a.user, a.connection) == ("10.0.0.1", 2222, "admin", Connection.SSH)
    assert (a.key_file, a.known_hosts) == (str(tmp_path / "keys/id"), "~/kh")
    assert (b.address, b.port, b.user, b.connection) == ("b.lan", 2200, None, Connection.LOCAL)
    assert b.key_file == "/k"
    assert a.variables == {}


def test_the_port_may_follow_the_name(tmp_path: Path) -> None:
    hosts = load(written(tmp_path, "[g]\nweb[1:2].lan:2022 x=1\n", "i.ini")).hosts

    assert [(host.name, host.port) for host in hosts] == [("web1.lan", 2022), ("web2.lan", 2022)]


def test_a_host_is_the_same_after_a_journey_through_json() -> None:
    host = Host("h", ("a", "b"), {"x": [1]}, Connection.LOCAL, "10.0.0.1", 23, "u", "/k", "/h")

    assert Host.from_input(json.loads(json.dumps(host.as_input()))) == host
    assert hash(host) == hash(Host.from_input(host.as_input()))


@pytest.mark.parametrize("change", [{"connection": "pigeon"}, {"extra": 1}])
def test_what_is_no_host_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(InventoryError, match="not a host"):
        Host.from_input(Host("h").as_input() | change)


BAD_YAML = [
    ("", None, "empty"),
    ("- a\n- b\n", 1, "the file is no mapping"),
    ("g:\n  hosts: [a, b]\n", 2, "hosts of group g is no mapping"),
    ("g:\n  hosts:\n    a: 5\n", 3, "host a is no mapping"),
    ("g:\n  hosts:\n    a:\n  nodes:\n    b:\n", 4, "key 'nodes'"),
    ("g:\n  hosts:\n    a:\n    a:\n", 4, "a twice, first at line 3"),
    ("g:\n  hosts: {a: {x: 1, x: 2}}\n", 2, "x twice"),
    ("g:\n  children: {a: , a: }\n", 2, "a twice"),
    ("g:\n\thosts:\n", 2, "not YAML"),
    ("g: {hosts: [\n", 2, "not YAML"),
    ("g:\n  hosts:\n    a: {x: !!python/object/apply:os.system [id]}\n", 3, "not YAML"),
    ("g: {hosts: {a: {x: *nobody}}}\n", 1, "not YAML"),
    ("a: &a\n  children:\n    b:\n      children:\n        a: *a\n", 3, "child b twice"),
    ("a:\n  children:\n    b:\n      children:\n        a:\n", 5, "contain each other: a > b > a"),
    ("g:\n  hosts:\n    web[3:1]:\n", 3, "stands for no host"),
    ("g:\n  hosts:\n    a:\n      since: 2026-11-24\n", 3, "host a: since is a date, not JSON"),
    ("g:\n  hosts:\n    a: {x: [{y: !!binary aGk=}]}\n", 3, r"x\[0\].y is a bytes"),
    ("g:\n  hosts:\n    a: {x: .inf}\n", 3, "x is inf"),
    ("g:\n  hosts:\n    a: {x: {1: one}}\n", 3, "x has the key 1"),
    ("g:\n  hosts:\n    a: {1: one}\n", 3, "has the key 1"),
    ("g:\n  hosts:\n    a: {ansible_password: x}\n", 3, "ansible_password would be stored"),
    ("g:\n  hosts:\n    a: {connection: winrm}\n", 3, "'winrm', which is no known connection"),
    ("g:\n  hosts:\n    a: {port: 70000}\n", 3, "port is 70000, which is no port"),
    ("g:\n  hosts:\n    a: {port: ssh}\n", 3, "port is 'ssh'"),
    ("g:\n  hosts:\n    a: {port: true}\n", 3, "port is True"),
    ("g:\n  hosts:\n    a: {host: [1]}\n", 3, "host is "),
    ("g:\n  hosts:\n    a: {host: a b}\n", 3, "host is 'a b'"),
    ("g:\n  hosts:\n    a: {user: ''}\n", 3, "user is ''"),
    ("g:\n  vars: {x: 1}\n", None, "no host in it"),
    ("'bad name':\n", 1, "not a group name"),
    ("g: \x07\n", None, "not YAML"),
    ("g: " + "[" * 5000, None, "nested too deeply"),
]


@pytest.mark.parametrize(("text", "line", "problem"), BAD_YAML)
def test_bad_yaml_is_refused_with_its_line(tmp_path: Path, text: str, line: int | None, problem: str) -> None:
    path = written(tmp_path, text)

    with pytest.raises(InventoryError, match=problem) as caught:
        load(path)

    assert str(caught.value).startswith(f"{path}:{line}: " if line else f"{path}: ")


def test_shared_values_that_would_explode_are_refused(tmp_path: Path) -> None:
    anchors = [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 9)]
    text = "g: {hosts: {a: }, vars: {l0: &l0 [x], " + ", ".join(anchors) + "}}"

    with pytest.raises(InventoryError, match="more than 10,000 values"):
        load(written(tmp_path, text))


BAD_INI = [
    ("[web\na\n", 1, "no section"),
    ("[web:hostz]\n", 1, "unknown kind 'hostz'"),
    ("[web]\na x\n", 2, "'x' is no variable"),
    ("[web]\na x='1\n", 2, "has no end"),
    ("[web]\na\n[web:vars]\nnonsense\n", 4, "'nonsense' is no variable"),
    ("[web]\na\n[wbe:vars]\nx=1\n", 3, "describes a group that is not defined"),
    ("[all:children]\nweb\n", 2, "child web, which is not defined"),
    ("[web]\na\n[all:children]\nweb\nweb\n", 5, "web twice, first at line 4"),
    ("[a:children]\nb\n[b:children]\na\n", 4, "contain each other: a > b > a"),
    ("[a:children]\na\n", 2, "contain each other: a > a"),
    ("[web]\na\n[p:children]\nweb x\n", 4, "is no group"),
    ("[web]\na ansible_port=0\n", 2, "ansible_port is 0"),
    ("[web]\na:ssh\n", 2, "'ssh', which is no port"),
    ("[web]\na ansible_connection=docker\n", 2, "no known connection"),
    ("[]\n", 1, "no section"),
    ("\n# only a comment\n", None, "no host in it"),
]


@pytest.mark.parametrize(("text", "line", "problem"), BAD_INI)
def test_bad_ini_is_refused_with_its_line(tmp_path: Path, text: str, line: int | None, problem: str) -> None:
    path = written(tmp_path, text, "i.ini")

    with pytest.raises(InventoryError, match=problem) as caught:
        load(path)

    assert str(caught.value).startswith(f"{path}:{line}: " if line else f"{path}: ")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "latin.yml").write_bytes(b"g: {hosts: {caf\xe9: }}")

    with pytest.raises(InventoryError, match="no such file; check the path"):
        load(tmp_path / "nowhere.yml")
    with pytest.raises(InventoryError, match="cannot be read"):
        load(tmp_path)
    with pytest.raises(InventoryError, match="byte 15 is not UTF-8"):
        load(tmp_path / "latin.yml")
