"""What may be stored as input and output: JSON that comes back exactly as it was given.

One portable rule for both databases. Tuples, sets, keys that are not strings, NaN, NUL characters and lone
surrogates are refused, since one database or the other would change or reject them; the error names the path.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

from dynflow_app.exceptions import MissingReferenceError, NotSerializableError, PlanningError

MAX_DEPTH = 64
REFERENCE_KEY = "$output"
SEALED_KEY = "$sealed"
LARGEST_FLOAT = 1e16
"""From here on JSON text has no decimal point, so jsonb keeps a whole number, which may even be another one."""


class OutputReference:
    """Placeholder for (part of) the output of another action, resolved just before the step that uses it runs.

    Index it to go deeper: ``disk.output["id"]``. It orders the steps too: who refers waits.
    """

    __slots__ = ("action_number", "path")

    def __init__(self, action_number: int, path: tuple[str | int, ...] = ()) -> None:
        self.action_number = action_number
        self.path = path

    def __getitem__(self, key: str | int) -> OutputReference:
        if not isinstance(key, (str, int)):
            raise PlanningError(f"An output reference takes keys and positions, not {key!r}.")
        return OutputReference(self.action_number, (*self.path, key))

    def __repr__(self) -> str:
        return f"<output of action {self.action_number}: {'.'.join(map(str, self.path)) or 'all of it'}>"

    def __str__(self) -> str:
        raise PlanningError(
            "The value of an output reference is not known while planning, so it cannot become text. "
            "Pass the reference itself as input and build the text in run()."
        )

    def __bool__(self) -> bool:
        raise PlanningError(
            "The value of an output reference is not known while planning, so it cannot be tested. "
            "Test it in the run() of the action that gets it."
        )

    def __iter__(self) -> Any:  # never returns: iterating over an unknown value has no meaning
        raise PlanningError("The value of an output reference is not known while planning, so it cannot be iterated.")

    def as_json(self) -> dict[str, Any]:
        """The stored form."""
        return {REFERENCE_KEY: {"action": self.action_number, "path": list(self.path)}}


def encode_input(value: Any, path: str, limit: int) -> tuple[Any, set[int]]:
    """Check `value` and replace references by their stored form.

    Returns the stored form and the numbers of the actions referred to. Raises `NotSerializableError`.
    """
    if value == {}:
        return {}, set()
    referred: set[int] = set()

    def on_reference(reference: OutputReference) -> Any:
        referred.add(reference.action_number)
        return reference.as_json()

    stored = _checked(value, path, 0, on_reference)
    _check_size(stored, path, limit)
    return stored, referred


def check_json(value: Any, path: str, limit: int) -> None:
    """Raise `NotSerializableError` unless `value` survives storing; `limit` is in bytes of JSON."""
    if value == {}:
        return
    _checked(value, path, 0, None)
    _check_size(value, path, limit)


def holds(value: Any, key: str) -> bool:
    """Whether a JSON `value` has a dictionary with `key`, at any depth."""
    if isinstance(value, dict):
        return key in value or any(holds(item, key) for item in value.values())
    return isinstance(value, list) and any(holds(item, key) for item in value)


def resolve(value: Any, outputs: dict[int, Any]) -> Any:
    """Replace stored references in `value` by what `outputs` (action number to output) holds.

    An output of None means that the action was skipped. What is sealed there stays sealed. Raises
    `MissingReferenceError`, and `SealingError` for a reference into something sealed that cannot be opened.
    """
    if isinstance(value, dict):
        if REFERENCE_KEY in value:
            return _look_up(value[REFERENCE_KEY], outputs)
        return {key: resolve(item, outputs) for key, item in value.items()}
    if isinstance(value, list):
        return [resolve(item, outputs) for item in value]
    return value


def _look_up(reference: dict[str, Any], outputs: dict[int, Any]) -> Any:
    number, path = reference["action"], reference["path"]
    found = outputs.get(number)
    if found is None:
        raise MissingReferenceError(f"The output of action {number} is not available: it did not run.")
    for depth, key in enumerate(path):
        try:
            found = _item(found, key)
        except (KeyError, IndexError, TypeError):
            wanted = ".".join(map(str, path[: depth + 1]))
            raise MissingReferenceError(
                f"The output of action {number} has no {wanted!r}. Set it in that action's run(), or skip this step."
            ) from None
    return found


def _item(container: Any, key: str | int) -> Any:
    if isinstance(container, dict) and SEALED_KEY in container:
        from dynflow_app.payloads import sealing  # which imports this module

        return sealing.sealed(sealing.unseal(container)[key])
    return container[key]


def _checked(value: Any, path: str, depth: int, on_reference: Callable[[OutputReference], Any] | None) -> Any:
    kind = type(value)
    if kind is str:
        return _checked_text(value, path)
    if value is None or kind in (bool, int) or (kind is float and abs(value) < LARGEST_FLOAT):
        return value
    if depth >= MAX_DEPTH:
        raise NotSerializableError(f"{path} is nested deeper than {MAX_DEPTH} levels.", path=path)
    if kind is list:
        return [_checked(item, f"{path}[{n}]", depth + 1, on_reference) for n, item in enumerate(value)]
    if kind is dict:
        return {
            _checked_key(key, path): _checked(item, f"{path}.{key}", depth + 1, on_reference)
            for key, item in value.items()
        }
    if kind is OutputReference and on_reference is not None:
        _checked(list(value.path), path, 0, None)  # its keys are stored, too
        return on_reference(value)
    raise NotSerializableError(_refusal(value, path), path=path)


def _refusal(value: Any, path: str) -> str:
    if isinstance(value, OutputReference):
        return f"{path} is an output reference; references belong into the input of a planned action."
    if isinstance(value, float) and math.isfinite(value):
        return f"{path} is {value}, which PostgreSQL would give back as a whole number; pass it as int or as text."
    if isinstance(value, float):
        return f"{path} is {value}, which JSON does not have."
    if hasattr(value, "output"):
        return f'{path} is a planned action; pass (part of) its output: .output["key"].'
    advice = _ADVICE.get(type(value), "pass text, numbers, lists and dictionaries, or the key of an object")
    return f"{path} is of type {type(value).__name__}, which JSON does not keep: {advice}."


_ADVICE: dict[type, str] = {
    tuple: "it would come back as a list; write a list",
    set: "write a sorted list",
    bytes: "encode it as text",
}


def _checked_key(key: Any, path: str) -> str:
    if type(key) is not str:
        raise NotSerializableError(f"{path} has the key {key!r}; JSON keys are text.", path=path)
    if key in (REFERENCE_KEY, SEALED_KEY):
        raise NotSerializableError(f"{path} has the reserved key {key!r}; name it otherwise.", path=path)
    return _checked_text(key, path)


def _checked_text(text: str, path: str) -> str:
    if text.isascii():
        if "\0" in text:
            raise NotSerializableError(f"{path} holds a NUL character, which PostgreSQL cannot store.", path=path)
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        raise NotSerializableError(f"{path} holds half of a surrogate pair, which is no text.", path=path) from None
    if "\0" in text:
        raise NotSerializableError(f"{path} holds a NUL character, which PostgreSQL cannot store.", path=path)
    return text


def _check_size(value: Any, path: str, limit: int) -> None:
    try:
        size = len(json.dumps(value, ensure_ascii=False).encode())
    except ValueError as error:  # an integer beyond Python's limit for conversion to text
        raise NotSerializableError(f"{path} cannot be written as JSON: {error}", path=path) from None
    if size > limit:
        raise NotSerializableError(
            f"{path} takes {size:,} bytes as JSON, more than the {limit:,} allowed by PAYLOAD_LIMIT. "
            "Store large things elsewhere and pass their key.",
            path=path,
        )
