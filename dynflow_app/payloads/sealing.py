"""Sealing: secrets in input and output, in a form that is masked wherever it is shown.

A sealed value is ``{"$sealed": "<Fernet token>"}``, or ``{"$sealed": {"plain": value}}`` without ``ENCRYPTION_KEYS``.
Users' data cannot have this key (`serialization` refuses it), so whatever has it was sealed here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus

from dynflow_app.conf import settings
from dynflow_app.exceptions import SealingError
from dynflow_app.payloads.json import REFERENCE_KEY, SEALED_KEY, holds
from dynflow_app.payloads.masking import MASK

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet

SHORTEST_SECRET = 4
"""Characters; shorter ones are found everywhere in a text."""
_PLAIN = "plain"


def seal(value: Any, keys: Collection[str]) -> Any:
    """A copy of a JSON `value` in which everything under one of `keys`, at any depth, is sealed.

    What is sealed already stays as it is, and so do output references: they are sealed once they are resolved. Raises
    `SealingError`.
    """
    if not keys:
        return value
    if isinstance(value, dict):
        if SEALED_KEY in value:
            return value
        return {key: sealed(item) if key in keys else seal(item, keys) for key, item in value.items()}
    if isinstance(value, list):
        return [seal(item, keys) for item in value]
    return value


def sealed(value: Any) -> Any:
    """The sealed form of all of `value`; around references and sealed parts in it, of its other parts."""
    if holds(value, SEALED_KEY) or holds(value, REFERENCE_KEY):
        if isinstance(value, list):
            return [sealed(item) for item in value]
        if SEALED_KEY in value or REFERENCE_KEY in value:
            return value
        return {key: sealed(item) for key, item in value.items()}
    keys = tuple(settings.ENCRYPTION_KEYS)
    if not keys:
        return {SEALED_KEY: {_PLAIN: value}}
    return {SEALED_KEY: _cipher(keys).encrypt(json.dumps(value).encode()).decode()}


def unseal(value: Any) -> Any:
    """`value` with everything that is sealed in it opened; itself if there is nothing. Raises `SealingError`."""
    return _opened(value) if holds(value, SEALED_KEY) else value


def secrets_in(value: Any) -> set[str]:
    """The texts, their lines, and the numbers in the sealed parts of `value`; without the very short ones.

    Raises `SealingError`.
    """
    if isinstance(value, dict):
        if SEALED_KEY in value:
            texts = set(_leaves(_content(value[SEALED_KEY])))
            lines = {line.strip() for text in texts for line in text.splitlines()}  # tracebacks may indent each
            return {found for found in texts | lines if len(found) >= SHORTEST_SECRET}
        value = list(value.values())
    return set().union(*map(secrets_in, value)) if isinstance(value, list) else set()


def texts_under(value: Any, is_secret: Callable[[str], bool]) -> set[str]:
    """The texts and numbers, of any length, under those keys of an unsealed `value` for which `is_secret` holds."""
    if isinstance(value, dict):
        found = (_leaves(item) if is_secret(key) else texts_under(item, is_secret) for key, item in value.items())
        return set().union(*found)
    return set().union(*(texts_under(item, is_secret) for item in value)) if isinstance(value, list) else set()


def scrub(text: str, secrets: Iterable[str]) -> str:
    """`text` with every one of `secrets` masked, also as `repr`, JSON and URLs write them; the longest first.

    Scrub before cutting: the half of a secret is not found any more.
    """
    forms = {form for secret in secrets for form in _forms(secret)} - {""}
    if not forms:
        return text
    return re.sub("|".join(map(re.escape, sorted(forms, key=len, reverse=True))), MASK, text)


def _forms(secret: str) -> Iterator[str]:
    yield secret
    yield repr(secret)[1:-1]
    yield repr(f"{secret}'\"")[1:-4]  # within a text that has both kinds of quotes
    yield ascii(secret)[1:-1]
    yield repr(secret.encode(errors="backslashreplace"))[2:-1]
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    yield quote(secret, errors="replace")
    yield quote(secret, safe="", errors="replace")
    yield quote_plus(secret, errors="replace")


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield str(value)
    elif isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _leaves(item)


def _opened(value: Any) -> Any:
    if isinstance(value, dict):
        if SEALED_KEY in value:
            return _content(value[SEALED_KEY])
        return {key: _opened(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_opened(item) for item in value]
    return value


def _content(stored: Any) -> Any:
    if isinstance(stored, dict) and _PLAIN in stored:
        return stored[_PLAIN]
    keys = tuple(settings.ENCRYPTION_KEYS)
    if not keys:
        raise SealingError("A stored secret is encrypted, but ENCRYPTION_KEYS is empty. Put the key there.")
    cipher = _cipher(keys)
    from cryptography.fernet import InvalidToken

    try:
        return json.loads(cipher.decrypt(stored))
    except (InvalidToken, TypeError, ValueError):
        raise SealingError(
            "None of ENCRYPTION_KEYS opens a stored secret. Put the key that was used back, after the one in use."
        ) from None


@cache
def _cipher(keys: tuple[str, ...]) -> MultiFernet:
    try:
        from cryptography.fernet import Fernet, MultiFernet
    except ImportError:
        raise SealingError("ENCRYPTION_KEYS needs cryptography: pip install 'dynflow_app[sealed]'.") from None
    ciphers = []
    for position, key in enumerate(keys):
        try:
            ciphers.append(Fernet(key))
        except (ValueError, TypeError):  # the message must not name the key
            raise SealingError(
                f"ENCRYPTION_KEYS[{position}] is no Fernet key. Make one with cryptography's Fernet.generate_key()."
            ) from None
    return MultiFernet(ciphers)
