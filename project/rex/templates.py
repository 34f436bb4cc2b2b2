"""Templates: scripts with variables that are checked before anything runs.

A line ``# input: NAME`` declares a variable that ``--var NAME=VALUE`` sets, ``# input: NAME = VALUE`` one with a
default. ``{{ NAME }}`` stands for the value of an input or a variable of the host, quoted for the shell, so it needs no
quotes around it; ``{{ NAME | raw }}`` for the value as it is. An input that is not set takes the host's variable of its
name, then its default. ``{{ host }}`` is the host's name. What does not begin with a name, such as ``{{.Names}}``, is
left alone.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Mapping

from project.rex.inventory import Host

_INPUT = re.compile(r"^\s*#\s*input:[ \t]*(?P<name>[A-Za-z_]\w*)[ \t]*(?:=[ \t]*(?P<default>.*?))?[ \t]*$", re.M | re.A)
_PLACEHOLDER = re.compile(r"\{\{\s*(?P<name>[A-Za-z_]\w*)(?P<rest>[^{}\n]*)\}\}", re.A)
_MARKS: dict[str, Callable[[str], str]] = {"": shlex.quote, "|raw": str}
SHOWN = 3


class TemplateError(ValueError):
    """The template, its variables and the hosts do not fit together; the message names what."""


class Template:
    """A script with variables. Raises `TemplateError` for a malformed one."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.inputs: dict[str, str | None] = {each["name"]: each["default"] for each in _INPUT.finditer(text)}
        """Declared variables and their defaults; None for those that have none."""
        self.names = {each["name"] for each in _PLACEHOLDER.finditer(text)}
        """Variables that are used."""
        for each in _PLACEHOLDER.finditer(text):
            if _mark(each) not in _MARKS:
                raise TemplateError(f"{each[0]} is no variable: write {{{{ name }}}} or {{{{ name | raw }}}}.")

    def check(self, values: Mapping[str, str], hosts: Iterable[Host]) -> None:
        """Raise `TemplateError` with the names of `values` that are not declared, and of variables without a value."""
        if unknown := sorted(values.keys() - self.inputs.keys()):
            known = ", ".join(sorted(self.inputs)) or "none"
            raise TemplateError(f"The template has no input {', '.join(unknown)}; it declares: {known}.")
        needed = self.names | self.inputs.keys()
        missing: dict[str, list[str]] = {}
        for host in hosts:
            for name in needed - self._values(values, host).keys():
                missing.setdefault(name, []).append(host.name)
        if missing:
            listed = "; ".join(f"{name} ({_some(of)})" for name, of in sorted(missing.items()))
            raise TemplateError(
                f"Variables without a text, a number or a truth value: {listed}. Give --var, set them in the "
                "inventory, or declare a default with '# input: NAME = VALUE'."
            )

    def render(self, values: Mapping[str, str], host: Host) -> str:
        """The script for one host; `check` has passed."""
        known = self._values(values, host)
        return _PLACEHOLDER.sub(lambda each: _MARKS[_mark(each)](known[each["name"]]), self.text)

    def _values(self, given: Mapping[str, str], host: Host) -> dict[str, str]:
        defaults = {name: default for name, default in self.inputs.items() if default is not None}
        return {**defaults, **host.texts, "host": host.name, **given}


def _mark(placeholder: re.Match[str]) -> str:
    return "".join(placeholder["rest"].split())


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
