"""Typed input and output: the inner classes ``Input`` and ``Output`` of an action, checked by pydantic.

Data is read as strict JSON: text may become a date or a UUID, but ``"5"`` is no number.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, cast

from dynflow_app.conf import settings
from dynflow_app.exceptions import InvalidDataError, PlanningError
from dynflow_app.payloads.json import REFERENCE_KEY, check_json, holds
from dynflow_app.payloads.masking import is_sensitive
from dynflow_app.payloads.sealing import scrub, texts_under

if TYPE_CHECKING:
    from pydantic import TypeAdapter
    from pydantic_core import ErrorDetails

    from dynflow_app.actions.base import BaseAction

MOST_PROBLEMS = 5
LONGEST_SHOWN = 60
"""Characters of a wrong value in a message."""

_REQUIRED = "Field required"
_UNKNOWN = "there is no such key"
_EXTRA = ("extra_forbidden", "unexpected_keyword_argument")
_HIDDEN = ("default", "examples", "const", "enum")
"""Parts of a schema that may show a value."""


def check_input(action_class: type[BaseAction], value: dict[str, Any]) -> dict[str, Any]:
    """`value` as ``Input`` has it, as JSON and with its defaults; itself if there is no ``Input``.

    While `value` holds stored output references only its keys are checked, and it stays as it is. Nothing in it may be
    sealed. Raises `InvalidDataError`, and `PlanningError` if ``Input`` cannot be used.
    """
    return value if action_class.Input is None else _check(action_class, "input", action_class.Input, value)


def check_output(action_class: type[BaseAction], value: dict[str, Any]) -> dict[str, Any]:
    """As `check_input`, for ``Output``."""
    return value if action_class.Output is None else _check(action_class, "output", action_class.Output, value)


def json_schema(action_class: type[BaseAction], which: Literal["input", "output"]) -> dict[str, Any] | None:
    """The JSON Schema of ``Input`` or ``Output``; None if there is none.

    Sensitive properties have ``writeOnly`` and ``x-sensitive``, and show no defaults, examples or choices. Raises
    `PlanningError` if the class cannot be used.
    """
    kind = action_class.Input if which == "input" else action_class.Output
    if kind is None:
        return None
    _keys(kind)  # is it usable at all?
    schema = _schema(kind, mode="validation" if which == "input" else "serialization")
    is_secret = _secrecy(action_class)
    for part in _parts(schema):
        properties = part.get("properties")
        for name, of_name in properties.items() if isinstance(properties, dict) else ():
            if is_secret(name) and isinstance(of_name, dict):
                for hidden in _HIDDEN:
                    of_name.pop(hidden, None)
                of_name.update({"writeOnly": True, "x-sensitive": True})
    return schema


@dataclass(frozen=True)
class _Keys:
    """The keys of a class at its top level."""

    spellings: tuple[tuple[str, str], ...]
    """Each key as alias and as field name, which are often the same."""
    required: frozenset[str]
    """Aliases."""
    is_open: bool
    """Whether there may be others."""

    def problems(self, given: Iterable[str]) -> Iterator[tuple[str, str]]:
        """Key and problem."""
        given = set(given)
        for spellings in self.spellings:
            if spellings[0] in self.required and given.isdisjoint(spellings):
                yield spellings[0], _REQUIRED
        if not self.is_open:
            for key in sorted(given.difference(*self.spellings)):
                yield key, _UNKNOWN


def _check(action_class: type[BaseAction], which: str, kind: type, value: dict[str, Any]) -> dict[str, Any]:
    path = f"{action_class.__name__}.{which}"
    problems = [f"{path}.{key}: {problem}" for key, problem in _keys(kind).problems(value)]
    checked = value
    if not holds(value, REFERENCE_KEY):
        from pydantic import ValidationError

        try:
            checked = _dumped(_adapter(kind), value)
        except ValidationError as error:
            problems += _explained(error, path, value, _secrecy(action_class))
    if problems:
        # Not chained: pydantic's own message shows values.
        raise InvalidDataError(_joined(problems), path=path) from None
    if checked is not value:
        check_json(checked, path, settings.PAYLOAD_LIMIT)  # its defaults come from the class
    return checked


def _dumped(adapter: TypeAdapter[Any], value: dict[str, Any]) -> dict[str, Any]:
    read = adapter.validate_json(json.dumps(value), strict=True)
    return cast("dict[str, Any]", adapter.dump_python(read, mode="json", by_alias=True))


def _joined(problems: list[str]) -> str:
    different = list(dict.fromkeys(problems))
    return "; ".join(different[:MOST_PROBLEMS]) + ("; and more" if len(different) > MOST_PROBLEMS else "")


def _explained(error: Any, path: str, value: Any, is_secret: Callable[[str], bool]) -> Iterator[str]:
    secrets = texts_under(value, is_secret)
    for found in error.errors(include_url=False)[: 2 * MOST_PROBLEMS]:
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in found["loc"])
        hide = any(is_secret(str(part)) for part in found["loc"])
        yield f"{path}{place}: {_problem(found, hide, secrets)}"


def _problem(found: ErrorDetails, hide: bool, secrets: set[str]) -> str:
    """What is wrong, without secrets: messages of users' validators may quote anything."""
    if found["type"] == "missing":
        return _REQUIRED
    if found["type"] in _EXTRA:
        return _UNKNOWN
    message = scrub(found["msg"], secrets)
    if hide:
        return message if found["type"].endswith("_type") else "not valid"
    if isinstance(found["input"], (dict, list)):
        return message
    shown = scrub(repr(found["input"]), secrets)
    return f"{message} (got {shown if len(shown) <= LONGEST_SHOWN else shown[:LONGEST_SHOWN] + '…'})"


def _secrecy(action_class: type[BaseAction]) -> Callable[[str], bool]:
    return lambda key: key in action_class.sensitive or is_sensitive(key)


@cache
def _keys(kind: type) -> _Keys:
    schema = _schema(kind)
    if any(part.get("writeOnly") is True for part in _parts(schema)):
        raise PlanningError(
            f"{kind.__qualname__} has a secret type, which pydantic would store as asterisks. Declare it as str, and "
            "name its key in the action's `sensitive`."
        )
    top, by_name = _top(schema), _top(_schema(kind, by_alias=False))
    if top.get("type") != "object":
        raise PlanningError(f"{kind.__qualname__} is no dataclass, TypedDict or pydantic model: make it one of these.")
    names = top.get("properties", {}), by_name.get("properties", {})
    is_model = hasattr(kind, "model_fields")  # which drops other keys if it does not say, as pydantic's users expect
    return _Keys(
        spellings=tuple(zip(*names, strict=True)),
        required=frozenset(top.get("required", ())),
        is_open=top.get("additionalProperties", is_model) is not False,
    )


def _top(schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema and "$defs" in schema:
        schema = {**schema["$defs"][schema["$ref"].rpartition("/")[2]]}
    return schema


def _parts(schema: Any) -> Iterator[dict[str, Any]]:
    """Every dictionary in a schema."""
    if isinstance(schema, dict):
        yield schema
    for item in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        yield from _parts(item)


def _schema(
    kind: type, *, mode: Literal["validation", "serialization"] = "validation", by_alias: bool = True
) -> dict[str, Any]:
    adapter = _adapter(kind)
    from pydantic import PydanticUserError

    try:
        return adapter.json_schema(mode=mode, by_alias=by_alias)
    except PydanticUserError as error:  # such as a type that JSON cannot hold
        raise PlanningError(f"{kind.__qualname__} cannot be used: {error}") from error


@cache
def _adapter(kind: type) -> TypeAdapter[Any]:
    try:
        from pydantic import PydanticUserError, TypeAdapter
    except ImportError:
        raise PlanningError(f"{kind.__qualname__} needs pydantic: pip install 'dynflow_app[typed]'.") from None
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(kind)
        adapter.rebuild(raise_errors=True)  # pydantic would put off until later what it cannot find now
    except (PydanticUserError, NameError) as error:
        raise PlanningError(
            f"{kind.__qualname__} cannot be used: {error}. Types that it names must be defined in its module, outside "
            "functions and classes."
        ) from error
    return adapter
