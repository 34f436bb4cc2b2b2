"""What counts as a secret."""

from __future__ import annotations

import pytest

from dynflow_app.payloads.masking import MASK, masked


@pytest.mark.parametrize(
    "key",
    ["password", "DB_PASSWORD", "passwd", "clientSecret", "token", "X-Auth-Token", "Authorization", "api key",
     "api_key", "apiKey", "API-KEY", "private key", "private_key", "sshPrivateKey"],
)  # fmt: skip
def test_secrets(key: str) -> None:
    for value in ("x", 1, None, ["x"], {"y": "x"}):
        assert masked([{key: value}]) == [{key: MASK}]


@pytest.mark.parametrize("value", [None, True, 1.5, "password", [], {}, {"host": "h", "key": [1, {"pass": 2}]}])
def test_everything_else_stays(value: object) -> None:
    assert masked(value) == value


def test_the_original_is_not_touched() -> None:
    original = {"a": {"token": "x"}}

    assert masked(original) == {"a": {"token": MASK}}
    assert original == {"a": {"token": "x"}}
