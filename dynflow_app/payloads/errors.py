"""Errors of user code in the form the ledger keeps: bounded, JSON, never raising itself."""

from __future__ import annotations

import traceback
from collections.abc import Iterable
from typing import Any

from dynflow_app.conf import settings
from dynflow_app.payloads.sealing import scrub


def describe(error: BaseException, secrets: Iterable[str] = ()) -> dict[str, Any]:
    """Class, message and traceback of `error`, each at most ``ERROR_LIMIT`` characters, with `secrets` masked."""
    try:
        message = str(error)
    except BaseException as secondary:
        message = f"(its message cannot be shown: {type(secondary).__name__})"
    try:
        backtrace = "".join(traceback.format_exception(error))
    except BaseException:
        backtrace = ""
    return as_error(
        f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins."),
        bounded(scrub(message, secrets)),
        bounded(scrub(backtrace, secrets)),
    )


def as_error(kind: str, message: str, backtrace: str = "") -> dict[str, Any]:
    """An error as the ledger keeps it; `kind` is the class of an exception, or what stands in for one."""
    return {"class": kind, "message": message, "backtrace": backtrace}


def storable(text: str) -> str:
    """`text` as both databases can store it."""
    return text.replace("\0", "\\0").encode(errors="backslashreplace").decode()


def bounded(text: str) -> str:
    """`text` as both databases can store it, cut in the middle if too long."""
    limit = settings.ERROR_LIMIT
    text = storable(text)
    if len(text) <= limit:
        return text
    return f"{text[: limit // 2]}\n... {len(text) - limit} characters left out ...\n{text[-limit // 2 :]}"
