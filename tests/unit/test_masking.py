"""Nothing that is sealed is ever shown; the names that give a secret away are in tests/api/test_masking.py."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynflow_app.payloads.masking import MASK, masked
from dynflow_app.payloads.sealing import seal
from tests.unit.test_sealing import KEYS, VALUES

CANARY = "canary-0815"
CANARIES = VALUES | st.just(CANARY) | st.lists(st.just(CANARY)) | st.dictionaries(KEYS, st.just(CANARY))


@pytest.mark.parametrize("content", [{"plain": "x"}, "gAAAA", {"plain": {"user": "x"}}])
def test_whatever_is_sealed_is_masked_under_any_key(content: Any) -> None:
    assert masked({"colour": {"$sealed": content}, "other": [{"$sealed": content}, 1]}) == {
        "colour": MASK,
        "other": [MASK, 1],
    }
    assert masked({"$sealed": content}) == MASK


@given(CANARIES, st.dictionaries(KEYS.filter(lambda key: key != "pin"), VALUES, max_size=3))
def test_a_sealed_canary_never_flies_out(secret: Any, around: dict[str, Any]) -> None:
    """Wherever it is hidden, and whatever is around it."""
    stored = seal({"around": around, "deep": [{"pin": {"of": secret, "or": CANARY}}], "pin": CANARY}, {"pin"})

    assert CANARY in json.dumps(stored)
    assert CANARY not in json.dumps(masked(stored))
