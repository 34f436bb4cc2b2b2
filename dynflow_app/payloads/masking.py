"""Masking: what looks like a secret is never shown, in the admin or by the API."""

from __future__ import annotations

import re
from typing import Any

from dynflow_app.payloads.json import SEALED_KEY

MASK = "••••"

_SENSITIVE = re.compile(r"password|passwd|secret|token|authorization|api[\s_.-]*key|private[\s_.-]*key", re.IGNORECASE)


def is_sensitive(key: str) -> bool:
    """Whether a value under this key is likely a secret."""
    return _SENSITIVE.search(key) is not None


def masked(value: Any) -> Any:
    """A copy of a JSON `value` in which everything sealed or under a sensitive key is replaced, whatever its type."""
    if isinstance(value, dict):
        if SEALED_KEY in value:
            return MASK
        return {key: MASK if is_sensitive(str(key)) else masked(item) for key, item in value.items()}
    if isinstance(value, list):
        return [masked(item) for item in value]
    return value
