"""Tokens of callback URLs: nobody but the project can make one, and none is good for ever."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from django.core.signing import Signer

from dynflow_app import clock
from dynflow_app.callbacks.tokens import SALT, CallbackToken, callback_token, callback_url, read_token
from dynflow_app.exceptions import CallbackError, NotSerializableError, PlanningError

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper

DAY = 24 * 3600.0


@pytest.mark.parametrize("token", ["", ":", "a", "W10:x", ".", "\ud800", "é:ü", "\0", "a" * 100_000])
def test_what_never_was_a_token_is_none(token: str) -> None:
    with pytest.raises(CallbackError) as refused:
        read_token(token)

    assert vars(refused.value)["reason"] == "changed"


def test_a_signature_of_ours_for_another_purpose_is_none() -> None:
    for token in (Signer(salt="other").sign_object([1, "a", 10**15, "n"]), Signer(salt=SALT).sign_object([1])):
        with pytest.raises(CallbackError):
            read_token(token)


def test_a_token_says_what_it_allows_and_no_two_are_the_same() -> None:
    tokens = {callback_token(7, "finished é", DAY) for _ in range(100)}
    read = {read_token(token) for token in tokens}

    assert len(read) == 100
    assert {(token.step_id, token.name) for token in read} == {(7, "finished é")}
    assert {len(token.nonce) for token in read} == {22}  # 128 bits


def test_an_expiry_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    start = datetime.fromisoformat("2030-01-01T00:00:00.5+00:00")
    monkeypatch.setattr(clock, "now", lambda: start)
    token = callback_token(1, "a", 10)

    monkeypatch.setattr(clock, "now", lambda: start + timedelta(seconds=9.999))
    assert isinstance(read_token(token), CallbackToken)
    monkeypatch.setattr(clock, "now", lambda: start + timedelta(seconds=10))
    with pytest.raises(CallbackError):
        read_token(token)


def test_tokens_survive_a_change_of_the_secret_key_while_it_is_a_fallback(settings: SettingsWrapper) -> None:
    # given a token
    token = callback_token(1, "a", DAY)

    # when the key is replaced, the old one is still accepted
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "new", [settings.SECRET_KEY]
    assert read_token(token).step_id == 1

    # and until it is dropped
    settings.SECRET_KEY_FALLBACKS = []
    with pytest.raises(CallbackError):
        read_token(token)


@pytest.mark.parametrize(("name", "error"), [("", ValueError), ("a" * 101, ValueError), ("a\0", NotSerializableError)])
def test_a_name_that_no_event_can_have_gets_no_token(name: str, error: type[Exception]) -> None:
    with pytest.raises(error, match="name"):
        callback_token(1, name, DAY)


def test_without_an_address_there_is_no_url(settings: SettingsWrapper) -> None:
    settings.DYNFLOW = {"CALLBACK_URL": ""}

    with pytest.raises(PlanningError, match="CALLBACK_URL"):
        callback_url(1, "finished", DAY)
