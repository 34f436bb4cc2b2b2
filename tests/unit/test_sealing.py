"""Secrets: sealed where they are stored, open where they are used, scrubbed where they are quoted."""

from __future__ import annotations

import copy
import json
import logging
import sys
import traceback
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from cryptography.fernet import Fernet
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st

from dynflow_app.exceptions import NotSerializableError, SealingError
from dynflow_app.payloads.json import OutputReference, check_json, encode_input, resolve
from dynflow_app.payloads.masking import MASK, masked
from dynflow_app.payloads.sealing import scrub, seal, sealed, secrets_in, texts_under, unseal
from tests.unit.test_serialization import LEAVES, LIMIT, TEXT, same

OLD, NEW = Fernet.generate_key().decode(), Fernet.generate_key().decode()
SENSITIVE = frozenset({"pin", "credentials"})
KEYS = TEXT.filter(lambda key: key not in ("$output", "$sealed"))
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner), max_leaves=20)
SECRETIVE = st.recursive(
    VALUES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.sampled_from(sorted(SENSITIVE)), inner),
    max_leaves=10,
)
with_keys = pytest.mark.parametrize("keys", [(), (NEW,), (NEW, OLD)])


def under(*keys: str) -> override_settings:
    """With these encryption keys."""
    return override_settings(DYNFLOW={"EXECUTOR": "in-process", "ENCRYPTION_KEYS": keys})


# --- seal, unseal --------------------------------------------------------------------------------------------------


@with_keys
@given(value=SECRETIVE)
def test_what_is_sealed_comes_back_exactly(keys: tuple[str, ...], value: Any) -> None:
    """Through JSON, with types; and sealing twice is sealing once."""
    before = copy.deepcopy(value)
    with under(*keys):
        stored = json.loads(json.dumps(seal(value, SENSITIVE)))

        assert same(unseal(stored), value)
        assert seal(stored, SENSITIVE) == stored
    assert same(value, before)


@given(VALUES)
def test_without_secrets_nothing_is_touched(value: Any) -> None:
    assert seal(value, frozenset()) is value
    assert unseal(value) is value
    assert secrets_in(value) == set()


def test_secrets_are_found_at_any_depth() -> None:
    given = {"pin": 1234, "hosts": [{"name": "web", "credentials": {"user": "joe", "key": "abc"}}], "pins": "x"}

    assert seal(given, SENSITIVE) == {
        "pin": {"$sealed": {"plain": 1234}},
        "hosts": [{"name": "web", "credentials": {"$sealed": {"plain": {"user": "joe", "key": "abc"}}}}],
        "pins": "x",
    }


def test_with_a_key_the_secret_is_not_in_what_is_stored() -> None:
    with under(NEW):
        stored = seal({"pin": "hunter2", "host": "web"}, SENSITIVE)

        assert "hunter2" not in json.dumps(stored)
        assert isinstance(stored["pin"]["$sealed"], str)
        assert stored["host"] == "web"


# --- keys ----------------------------------------------------------------------------------------------------------


def test_old_keys_still_open_what_they_sealed() -> None:
    with under():
        plain = seal({"pin": "first"}, SENSITIVE)
    with under(OLD):
        old = seal({"pin": "second"}, SENSITIVE)
    with under(NEW, OLD):
        new = seal({"pin": "third"}, SENSITIVE)

        assert [unseal(each)["pin"] for each in (plain, old, new)] == ["first", "second", "third"]
    with under(NEW):  # it was the first key that encrypted
        assert unseal(new) == {"pin": "third"}


def test_a_lost_key_is_an_error_that_says_what_to_do() -> None:
    with under(OLD):
        stored = seal({"pin": "hunter2"}, SENSITIVE)

    with under(NEW), pytest.raises(SealingError, match="None of ENCRYPTION_KEYS opens"):
        unseal(stored)
    with under(), pytest.raises(SealingError, match="ENCRYPTION_KEYS is empty"):
        unseal(stored)
    for broken in ("", "gAAAA", 5, None, {}, [], "\ud7ff"):
        with under(NEW), pytest.raises(SealingError):
            unseal({"$sealed": broken})


@pytest.mark.parametrize("bad", ["short-and-secret", "", 5555555, "é" * 44])
def test_a_bad_key_is_named_by_its_position_only(bad: Any) -> None:
    with under(NEW, bad), pytest.raises(SealingError) as caught:
        seal({"pin": 1}, SENSITIVE)

    assert "ENCRYPTION_KEYS[1]" in str(caught.value)
    assert not bad or str(bad) not in "".join(traceback.format_exception(caught.value))


def test_without_cryptography_keys_are_an_error_with_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.fernet", None)

    with (
        under(Fernet.generate_key().decode()),
        pytest.raises(SealingError, match=r"pip install 'dynflow_app\[sealed\]"),
    ):
        seal({"pin": 1}, SENSITIVE)
    assert unseal(seal({"pin": 1}, SENSITIVE)) == {"pin": 1}


# --- users' data and references ------------------------------------------------------------------------------------


@pytest.mark.parametrize("forged", [{"plain": 1}, "gAAAA", None])
def test_users_cannot_forge_a_sealed_value(forged: Any) -> None:
    for refuse in (check_json, encode_input):
        with pytest.raises(NotSerializableError) as caught:
            refuse({"hosts": [{"$sealed": forged}]}, "input", LIMIT)
        assert caught.value.path == "input.hosts[0]"  # type: ignore[attr-defined]


@with_keys
def test_a_reference_brings_the_secret_sealed(keys: tuple[str, ...]) -> None:
    # given an action with a secret in its output, and one that refers to it under an innocent key and a sensitive one
    with under(*keys):
        produced = seal({"pin": "hunter2", "credentials": {"user": "joe", "keys": ["k-1", "k-2"]}}, SENSITIVE)
        made = OutputReference(1)
        wanted = {"code": made["pin"], "pin": made["pin"], "key": made["credentials"]["keys"][1], "all": made}
        stored, _ = encode_input(wanted, "input", LIMIT)
        stored = seal(stored, SENSITIVE)

        # when it is about to run
        resolved = seal(resolve(stored, {1: produced}), SENSITIVE)

        # then the action sees the secret, and neither storage nor screen does
        opened = {"pin": "hunter2", "credentials": {"user": "joe", "keys": ["k-1", "k-2"]}}
        assert unseal(resolved) == {"code": "hunter2", "pin": "hunter2", "key": "k-2", "all": opened}
        assert masked(resolved) == {
            "code": MASK,
            "pin": MASK,
            "key": MASK,
            "all": {"pin": MASK, "credentials": MASK},
        }
        assert resolved["code"] == produced["pin"]


def test_a_secret_that_refers_is_sealed_once_it_is_known() -> None:
    stored, _ = encode_input({"credentials": {"user": "joe", "key": OutputReference(1, ("k",))}}, "input", LIMIT)

    planned = seal(stored, SENSITIVE)
    assert planned["credentials"]["user"] == {"$sealed": {"plain": "joe"}}
    assert planned["credentials"]["key"] == {"$output": {"action": 1, "path": ["k"]}}

    resolved = seal(resolve(planned, {1: {"k": [1, {"a": "b"}]}}), SENSITIVE)
    assert resolved["credentials"]["key"] == {"$sealed": {"plain": [1, {"a": "b"}]}}
    assert unseal(resolved) == {"credentials": {"user": "joe", "key": [1, {"a": "b"}]}}


def test_a_reference_cannot_reach_around_the_seal() -> None:
    from dynflow_app.exceptions import MissingReferenceError

    stored, _ = encode_input({"x": OutputReference(1, ("pin", "$sealed", "plain"))}, "input", LIMIT)

    with pytest.raises(MissingReferenceError):
        resolve(stored, {1: seal({"pin": "hunter2"}, SENSITIVE)})


# --- scrub ---------------------------------------------------------------------------------------------------------


@with_keys
def test_secrets_are_the_texts_and_numbers_in_what_is_sealed(keys: tuple[str, ...]) -> None:
    given = {"pin": {"a": ["long enough", "abc", 12345, 123, True, None, 1.25]}, "x": "open", "y": [sealed("four")]}
    with under(*keys):
        assert secrets_in(seal(given, SENSITIVE)) == {"long enough", "12345", "1.25", "four"}


def test_the_lines_of_a_secret_are_secrets() -> None:
    stored = sealed("-----BEGIN-----\nMIIEvQ\n  ab\n")

    assert scrub("  | MIIEvQ\n", secrets_in(stored)) == f"  | {MASK}\n"
    assert "ab" not in secrets_in(stored)


def test_texts_under_keys_have_any_length() -> None:
    assert texts_under({"pin": {"a": ["x", 1, None]}, "b": [{"pin": "yy"}], "c": "z"}, "pin".__eq__) == {"x", "1", "yy"}


TRICKY = "p\"a's\\s w/ö+rd\n\t€"


@pytest.mark.parametrize(
    "text",
    [
        TRICKY, repr(TRICKY), ascii(TRICKY), repr(TRICKY.replace('"', "")), json.dumps(TRICKY),
        json.dumps({"a": TRICKY}, ensure_ascii=False), repr(TRICKY.encode()), quote(TRICKY), quote(TRICKY, ""),
        urlencode({"password": TRICKY}), f"https://joe:{quote(TRICKY, '')}@host/", repr({"a": [f"'{TRICKY}\""]}),
    ],
)  # fmt: skip
def test_a_secret_is_scrubbed_however_it_is_written(text: str) -> None:
    secrets = {TRICKY, TRICKY.replace('"', "")}

    assert MASK in scrub(text, secrets)
    for piece in ("s w", "rd", "s%5Cs", "p%22", "p\\", 'p"'):
        assert piece not in scrub(text, secrets).removeprefix("password")


def test_the_longest_secret_goes_first() -> None:
    assert scrub("hunter2000 and hunter2", {"hunter2", "hunter2000"}) == f"{MASK} and {MASK}"


@given(st.text(), st.sets(st.text(min_size=1).filter(lambda text: "•" not in text), max_size=4), st.data())
def test_a_canary_never_survives_scrubbing(text: str, secrets: set[str], data: st.DataObject) -> None:
    """Any secrets in any text; what is no secret stays."""
    for secret in secrets:
        at = data.draw(st.integers(0, len(text)))
        text = text[:at] + secret + text[at:]

    scrubbed = scrub(text, secrets)

    assert not any(secret in scrubbed for secret in secrets)
    assert scrub(text, set()) == text


def test_a_traceback_is_scrubbed(caplog: pytest.LogCaptureFixture) -> None:
    # given an action that quotes its secret in its error and in its log
    stored = seal({"pin": 'c4nary\'s "own"', "host": "web"}, SENSITIVE)
    try:
        raise ValueError(unseal(stored))
    except ValueError as error:
        text = "".join(traceback.format_exception(error))
        logging.getLogger(__name__).warning("failed: %s", json.dumps(unseal(stored)))

    # when both are scrubbed
    scrubbed = scrub(text + caplog.text, secrets_in(stored))

    # then what is left tells where, but not what
    assert "c4nary" in text
    assert "c4nary" in caplog.text
    assert "c4nary" not in scrubbed
    assert "ValueError" in scrubbed
    assert "'host': 'web'" in scrubbed
