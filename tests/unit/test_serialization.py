"""What is stored comes back as it was given, or is refused with the place where it is."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import json
import uuid
from collections import OrderedDict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynflow_app.exceptions import MissingReferenceError, NotSerializableError, PlanningError
from dynflow_app.payloads.json import MAX_DEPTH, OutputReference, check_json, encode_input, resolve

LIMIT = 1024 * 1024


class Colour(enum.StrEnum):
    """Text that is not just text."""

    RED = "red"


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
KEYS = TEXT.filter(lambda key: key != "$output")
FLOATS = st.floats(-1e16, 1e16, exclude_min=True, exclude_max=True)
LEAVES = st.none() | st.booleans() | st.integers() | FLOATS | TEXT
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner), max_leaves=20)

BAD_LEAVES = st.sampled_from(
    [
        (1, 2), (), {1}, frozenset(), b"x", bytearray(b"x"), float("nan"), float("inf"), -float("inf"), 1e16, -1.5e300,
        "a\0b", "é\0", "\ud800", "ok\udfff", object(), decimal.Decimal(1), uuid.uuid4(), 1j, Colour.RED,
        dt.date(2020, 1, 1), OrderedDict(a=1), {1: "int key"}, {None: 0}, {True: 0}, {("a",): 0},
        {"$output": 1}, {"a\0": 1}, {"\ud800": 1}, {"$output": {"action": 1, "path": []}}, range(3), 10**5000,
    ]
)  # fmt: skip
LAYERS = st.lists(
    st.tuples(st.just("list"), st.lists(LEAVES, max_size=3)) | st.tuples(st.just("dict"), KEYS), max_size=8
)


def same(one: Any, other: Any) -> bool:
    """Equal, and of the same types all the way down."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


@given(VALUES)
def test_what_is_accepted_comes_back_the_same(value: Any) -> None:
    """Through JSON, with types."""
    stored, referred = encode_input(value, "input", LIMIT)
    check_json(value, "output", LIMIT)

    assert referred == set()
    assert same(json.loads(json.dumps(stored)), value)
    assert same(resolve(stored, {}), value)


@given(BAD_LEAVES, LAYERS)
def test_what_would_change_is_refused_by_its_path(bad: Any, layers: list[tuple[str, Any]]) -> None:
    """Wherever it is hidden, the error names the place."""
    value, path = bad, ""
    for kind, detail in layers:
        if kind == "list":
            value, path = [*detail, value], f"[{len(detail)}]{path}"
        else:
            value, path = {detail: value}, f".{detail}{path}"

    for refuse in (check_json, encode_input):
        with pytest.raises(NotSerializableError) as refused:
            refuse(value, "input", LIMIT)
        expected = "input" if bad == 10**5000 else f"input{path}"  # found only when all of it is written
        assert refused.value.path == expected
        assert refused.value.path in str(refused.value)


@given(VALUES, LAYERS, st.integers(1, 100), st.lists(KEYS, max_size=3))
def test_references_are_found_and_resolved_anywhere(
    target: Any, layers: list[tuple[str, Any]], number: int, keys: list[str]
) -> None:
    """A reference is replaced by what it refers to, and by nothing else."""
    reference = OutputReference(number)
    output = target
    for key in keys:
        reference = reference[key]
    for key in reversed(keys):
        output = {key: output}
    given_input: Any = reference
    expected = target
    for kind, detail in layers:
        if kind == "list":
            given_input, expected = [*detail, given_input], [*detail, expected]
        else:
            given_input, expected = {detail: given_input}, {detail: expected}

    stored, referred = encode_input({"it": given_input}, "input", LIMIT)

    assert referred == {number}
    assert same(json.loads(json.dumps(stored)), stored)
    if output is None:  # which stands for an action that was skipped
        return
    assert same(resolve(stored, {number: output}), {"it": expected})


def test_depth_is_limited_and_cycles_are_refused() -> None:
    """Never a RecursionError."""
    deep: Any = 1
    for _ in range(MAX_DEPTH):
        deep = [deep]
    check_json(deep, "output", LIMIT)
    cycle: list[Any] = []
    cycle.append(cycle)

    for value in ([deep], {"a": deep}, cycle):
        with pytest.raises(NotSerializableError, match="deeper than"):
            check_json(value, "output", LIMIT)


def test_size_counts_the_bytes_of_the_json() -> None:
    """The limit itself is allowed."""
    check_json("é" * 4, "output", 10)

    with pytest.raises(NotSerializableError, match="PAYLOAD_LIMIT"):
        check_json("é" * 4, "output", 9)


def test_an_output_holds_no_reference() -> None:
    """References belong into input."""
    with pytest.raises(NotSerializableError, match="reference") as refused:
        check_json({"a": [OutputReference(1)]}, "output", LIMIT)

    assert refused.value.path == "output.a[0]"


@pytest.mark.parametrize("key", ["a\0b", "\ud800"])
def test_a_reference_takes_no_key_that_could_not_be_stored(key: str) -> None:
    """Neither NUL nor half a surrogate pair, as everywhere else."""
    with pytest.raises((NotSerializableError, PlanningError)):
        encode_input({"a": OutputReference(1)[key]}, "input", LIMIT)


@pytest.mark.parametrize(
    ("outputs", "path"),
    [
        ({}, ("a",)),
        ({1: None}, ("a",)),
        ({1: {}}, ("a",)),
        ({1: {"a": {}}}, ("a", "b")),
        ({1: {"a": []}}, ("a", 0)),
        ({1: {"a": [1]}}, ("a", "0")),
        ({1: {"a": 5}}, ("a", "b")),
        ({1: {"a": None}}, ("a", "b")),
        ({1: {"a": "text"}}, ("a", "b")),
    ],
)
def test_what_is_missing_is_named(outputs: dict[int, Any], path: tuple[str | int, ...]) -> None:
    """The step that uses it fails, and says what it missed."""
    stored, _ = encode_input(OutputReference(1, path), "input", LIMIT)

    with pytest.raises(MissingReferenceError, match="action 1"):
        resolve(stored, outputs)


@pytest.mark.parametrize("use", [str, list, "{}".format, lambda reference: f"{reference}"])
def test_a_reference_is_not_a_value_yet(use: Any) -> None:
    """Using it as one fails at once, where the mistake is."""
    with pytest.raises(PlanningError):
        use(OutputReference(1)["a"])
