"""Typed input and output: what fits is completed, what does not is refused by its place, and secrets stay out of it."""

# long: many small cases of one subject

from __future__ import annotations

import sys
import traceback
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from typing import Any, ClassVar, Literal, NotRequired

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, RootModel, SecretStr, field_validator, model_validator
from typing_extensions import TypedDict

from dynflow_app import BaseAction
from dynflow_app.actions import schemas
from dynflow_app.actions.schemas import check_input, check_output, json_schema
from dynflow_app.exceptions import InvalidDataError, NotSerializableError, PlanningError
from dynflow_app.payloads.json import OutputReference, encode_input

CANARY = "c4nary"


@dataclass
class Disk:
    """A part of an input."""

    size_gb: int
    tags: list[str] = field(default_factory=list)


class Plain(BaseAction):
    """Without types."""


class CreateDisk(BaseAction):
    """With a dataclass."""

    sensitive: ClassVar[set[str]] = {"pin"}

    @dataclass
    class Input:
        """What it takes."""

        host: str
        size_gb: int = 20
        born: date | None = None
        key: uuid.UUID | None = None
        ratio: float = 1.0
        disks: list[Disk] = field(default_factory=list)
        pin: int = 0
        mode: Literal["thin", "thick"] = "thin"

    class Output(TypedDict):
        """What it leaves."""

        disk: str
        pin: NotRequired[str]


class Strict(BaseAction):
    """With a model that forbids other keys and has aliases."""

    class Input(BaseModel):
        """What it takes."""

        model_config = ConfigDict(extra="forbid", populate_by_name=True)
        size_gb: int = Field(alias="sizeGb")
        token: str = Field(default=CANARY, examples=["x"])
        note: str = ""

        @field_validator("note")
        @classmethod
        def _no_shouting(cls, note: str) -> str:
            if note.isupper():
                raise ValueError(f"do not shout {note}")
            return note

        @model_validator(mode="after")
        def _agreed(self) -> Strict.Input:
            if self.token.startswith("bad"):
                raise ValueError(f"{self.token} does not fit")
            return self


class Lenient(BaseAction):
    """With a model that says nothing about other keys."""

    class Input(BaseModel):
        """What it takes."""

        host: str


def problems(action_class: type[BaseAction], value: dict[str, Any]) -> list[str]:
    """What is wrong with an input."""
    with pytest.raises(InvalidDataError) as caught:
        check_input(action_class, value)
    return str(caught.value).split("; ")


# --- what fits -----------------------------------------------------------------------------------------------------


def test_without_a_class_the_value_is_what_it_was() -> None:
    value = {"anything": object()}

    assert check_input(Plain, value) is value
    assert check_output(Plain, value) is value
    assert json_schema(Plain, "input") is None


def test_defaults_are_filled_in_and_the_result_is_json() -> None:
    key = "12345678-1234-5678-1234-567812345678"

    checked = check_input(CreateDisk, {"host": "web", "born": "2020-02-29", "key": key, "disks": [{"size_gb": 1}]})

    assert checked == {
        "host": "web", "size_gb": 20, "born": "2020-02-29", "key": key, "ratio": 1.0,
        "disks": [{"size_gb": 1, "tags": []}], "pin": 0, "mode": "thin",
    }  # fmt: skip
    assert check_input(CreateDisk, checked) == checked
    assert check_output(CreateDisk, {"disk": "d"}) == {"disk": "d"}


def test_aliases_survive() -> None:
    checked = check_input(Strict, {"sizeGb": 1})

    assert checked == {"sizeGb": 1, "token": CANARY, "note": ""}
    assert check_input(Strict, checked) == checked
    assert check_input(Strict, {"size_gb": 1}) == checked


@given(st.fixed_dictionaries({"host": st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))},
    optional={"size_gb": st.integers(), "ratio": st.floats(-1e15, 1e15), "born": st.dates().map(str)}))  # fmt: skip
def test_checking_what_was_checked_changes_nothing(value: dict[str, Any]) -> None:
    """So a step may check its stored input in every attempt."""
    checked = check_input(CreateDisk, value)

    assert check_input(CreateDisk, checked) == checked
    assert checked.items() >= value.items()


# --- what does not -------------------------------------------------------------------------------------------------


def test_a_wrong_value_is_named_by_its_place() -> None:
    assert problems(CreateDisk, {"host": "web", "size_gb": "many"}) == [
        "CreateDisk.input.size_gb: Input should be a valid integer (got 'many')"
    ]
    assert problems(CreateDisk, {"host": "web", "disks": [{"size_gb": 1}, {"size_gb": None}]}) == [
        "CreateDisk.input.disks[1].size_gb: Input should be a valid integer (got None)"
    ]
    with pytest.raises(InvalidDataError, match=r"^CreateDisk\.output\.disk: Field required$"):
        check_output(CreateDisk, {})


@pytest.mark.parametrize("wrong", [{"size_gb": "5"}, {"size_gb": 5.0}, {"size_gb": True}, {"ratio": "1"}, {"host": 1}])
def test_text_does_not_silently_become_a_number(wrong: dict[str, Any]) -> None:
    (problem,) = problems(CreateDisk, {"host": "web", **wrong})

    assert f"(got {next(iter(wrong.values()))!r})" in problem


def test_missing_and_unknown_keys_are_problems() -> None:
    assert problems(CreateDisk, {"hots": "web"}) == [
        "CreateDisk.input.host: Field required",
        "CreateDisk.input.hots: there is no such key",
    ]
    assert problems(Strict, {"sizegb": 1}) == [
        "Strict.input.sizeGb: Field required",
        "Strict.input.sizegb: there is no such key",
    ]
    with pytest.raises(InvalidDataError, match="there is no such key"):
        check_output(CreateDisk, {"disk": "d", "dsik": "d"})
    assert check_input(Lenient, {"host": "web", "other": 1}) == {"host": "web"}


def test_five_problems_are_enough() -> None:
    found = problems(CreateDisk, {"host": "web", "disks": [{}] * 50})

    assert len(found) == 6
    assert found[4:] == ["CreateDisk.input.disks[4].size_gb: Field required", "and more"]


def test_long_values_are_cut() -> None:
    (problem,) = problems(CreateDisk, {"host": "web", "size_gb": "x" * 10_000})

    assert len(problem) < 200


def test_defaults_that_cannot_be_stored_are_refused() -> None:
    class Odd(BaseAction):
        @dataclass
        class Input:
            ratio: float = float("nan")

    with pytest.raises(NotSerializableError, match=r"Odd\.input\.ratio"):
        check_input(Odd, {})


# --- output references ---------------------------------------------------------------------------------------------


def planned(**given: Any) -> dict[str, Any]:
    """As stored while planning."""
    stored: dict[str, Any] = encode_input(given, "input", 1000)[0]
    return stored


def test_with_references_only_the_keys_are_checked() -> None:
    # given an input that will be known later
    stored = planned(host=OutputReference(1), size_gb="many")
    assert check_input(CreateDisk, stored) is stored
    deep = planned(host="web", disks=[{"size_gb": OutputReference(1)}])
    assert check_input(CreateDisk, deep) is deep

    # then its keys are known already
    assert problems(CreateDisk, planned(size_gb=OutputReference(1), hots=1)) == [
        "CreateDisk.input.host: Field required",
        "CreateDisk.input.hots: there is no such key",
    ]
    assert problems(Strict, planned(token=OutputReference(1), x=1)) == [
        "Strict.input.sizeGb: Field required",
        "Strict.input.x: there is no such key",
    ]
    assert check_input(Strict, planned(size_gb=OutputReference(1)))
    assert check_input(Lenient, planned(host=OutputReference(1), other=1))
    assert problems(Lenient, planned(other=OutputReference(1))) == ["Lenient.input.host: Field required"]


# --- secrets -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action_class", "value"),
    [
        (CreateDisk, {"host": "web", "pin": CANARY}),
        (CreateDisk, {"host": "web", "pin": {"deep": [CANARY]}}),
        (CreateDisk, {"host": "web", "pin": CANARY, "size_gb": CANARY, "mode": f"x{CANARY}"}),
        (CreateDisk, {"host": {"pin": CANARY}}),
        (CreateDisk, {"host": {"token": CANARY}, "disks": [{"pin": CANARY}]}),
        (CreateDisk, {"host": "web", "pin": 4711, "size_gb": "4711"}),
        (Strict, {"sizeGb": 1, "token": f"bad{CANARY}"}),
        (Strict, {"sizeGb": 1, "token": f"{CANARY.upper()} {CANARY}", "note": f"{CANARY.upper()}"}),
        (Strict, {"sizeGb": "x", "token": [CANARY]}),
    ],
)
def test_a_secret_is_never_quoted(action_class: type[BaseAction], value: dict[str, Any]) -> None:
    """Neither in the message nor in the traceback, which is stored as well."""
    with pytest.raises(InvalidDataError) as caught:
        check_input(action_class, value)

    shown = "".join(traceback.format_exception(caught.value))
    assert CANARY not in shown
    assert "4711" not in shown


def test_a_secret_of_one_character_is_never_quoted() -> None:
    class Pin(BaseAction):
        sensitive: ClassVar[set[str]] = {"pin"}

        class Input(BaseModel):
            pin: str

            @model_validator(mode="after")
            def _long(self) -> Any:
                raise ValueError(f"the pin is only {self.pin}")

    assert "7" not in problems(Pin, {"pin": "7"})[0]


def test_the_schema_marks_secrets_and_shows_none() -> None:
    schema = json_schema(CreateDisk, "input")
    assert schema is not None
    assert schema["properties"]["pin"] == {
        "title": "Pin", "type": "integer", "writeOnly": True, "x-sensitive": True,
    }  # fmt: skip
    assert schema["properties"]["size_gb"] == {"default": 20, "title": "Size Gb", "type": "integer"}
    assert schema["required"] == ["host"]

    assert CANARY not in str(json_schema(Strict, "input"))
    output = json_schema(CreateDisk, "output")
    assert output is not None
    assert output["properties"]["pin"]["x-sensitive"] is True
    assert output["required"] == ["disk"]


# --- classes that cannot be used -----------------------------------------------------------------------------------


class Tree(BaseAction):
    """With a class that refers to itself."""

    @dataclass
    class Input:
        """What it takes."""

        name: str
        below: list[Tree.Input] = field(default_factory=list)


def test_a_class_may_refer_to_itself() -> None:
    assert check_input(Tree, {"name": "a", "below": [{"name": "b"}]})["below"] == [{"name": "b", "below": []}]
    assert problems(Tree, {"nmae": "a"}) == ["Tree.input.name: Field required", "Tree.input.nmae: there is no such key"]


class WithSecretStr(BaseModel):
    """Would be dumped as asterisks."""

    word: SecretStr


class WithUnknown(BaseModel):
    """Names what is not there."""

    other: Nowhere  # type: ignore[name-defined] # noqa: F821 - that is the point


@dataclass
class WithNowhere:
    """As a dataclass."""

    other: Nowhere  # type: ignore[name-defined] # noqa: F821 - as above


@dataclass
class WithObject:
    """Describes what JSON cannot hold."""

    call: Callable[[], None]


@pytest.mark.parametrize(
    ("kind", "advice"),
    [
        (WithSecretStr, "Declare it as str"),
        (WithUnknown, "name 'Nowhere' is not defined"),
        (WithNowhere, "must be defined in its module"),
        (WithObject, "cannot be used: Cannot generate a JsonSchema"),
        (int, "make it one of these"),
        (RootModel[list[int]], "make it one of these"),
        (object, "make it one of these"),
    ],
)
def test_an_unusable_class_is_a_planning_error_with_advice(kind: type, advice: str) -> None:
    action_class = type("Odd", (Plain,), {"Input": kind, "__module__": __name__})

    with pytest.raises(PlanningError, match=advice):
        check_input(action_class, {"word": "x"})
    with pytest.raises(PlanningError, match=advice):
        json_schema(action_class, "input")


def test_without_pydantic_there_is_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    schemas._adapter.cache_clear()
    schemas._keys.cache_clear()
    monkeypatch.setitem(sys.modules, "pydantic", None)

    with pytest.raises(PlanningError, match=r"CreateDisk\.Input needs pydantic: pip install 'dynflow_app\[typed\]'"):
        check_input(CreateDisk, {"host": "web"})
    assert check_input(Plain, {"host": "web"}) == {"host": "web"}
