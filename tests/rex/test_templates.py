"""Templates: what is declared, what is given, and what fits."""

from __future__ import annotations

import pytest

from project.rex.inventory import Host
from project.rex.templates import Template, TemplateError

HOST = Host("h1", variables={"site": "lab & co", "disks": ["a"], "port": 80, "version": "from the host"})


def rendered(text: str, **values: str) -> str:
    """Check and render `text` for `HOST`."""
    template = Template(text)
    template.check(values, [HOST])
    return template.render(values, HOST)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cd {{ site }}", "cd 'lab & co'"),
        ("cd {{site|raw}} {{ site | raw }}", "cd lab & co lab & co"),
        ("{{ host }}:{{ port }}", "h1:80"),
        ("docker ps --format '{{.Names}}' ${HOME} {{ }}", "docker ps --format '{{.Names}}' ${HOME} {{ }}"),
        ("# input: a = x y\n{{ a }}", "# input: a = x y\n'x y'"),
        ("# input: a =\n{{ a }}.", "# input: a =\n''."),
    ],
)
def test_what_comes_of_a_placeholder(text: str, expected: str) -> None:
    assert rendered(text) == expected


def test_what_is_given_wins_over_the_host_and_that_over_the_default() -> None:
    text = "# input: version = default\n# input: level = default\n{{ version }} {{ level }}"
    assert rendered(text).splitlines()[-1] == "'from the host' default"
    assert rendered(text, version="given").splitlines()[-1] == "given default"


@pytest.mark.parametrize(
    ("text", "values", "problem"),
    [
        ("{{ nothing }}", {}, r"nothing \(h1\)"),
        ("{{ disks }}", {}, r"disks \(h1\)"),
        ("# input: a\ntrue", {}, r"a \(h1\)"),
        ("# input: a\n{{ a }}", {"a": "1", "b": "2", "c": "3"}, "no input b, c; it declares: a"),
        ("{{ site }}", {"site": "x"}, "no input site; it declares: none"),
        ("{{ a b }}", {}, r"\{\{ a b \}\} is no variable"),
        ("{{ a | upper }}", {}, "is no variable"),
    ],
)
def test_what_is_refused(text: str, values: dict[str, str], problem: str) -> None:
    with pytest.raises(TemplateError, match=problem):
        rendered(text, **values)


def test_of_many_hosts_some_are_named() -> None:
    hosts = [Host(f"h{n}", variables={"a": 1} if n == 3 else {}) for n in range(9)]
    with pytest.raises(TemplateError, match=r"a \(h0, h1, h2 and 5 more\)"):
        Template("{{ a }}").check({}, hosts)
