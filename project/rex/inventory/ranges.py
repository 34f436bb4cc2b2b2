"""Ranges in host names: ``web[01:20].example.com``, ``db-[a:c]``, ``node[0:30:10]``."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

from project.rex.inventory.errors import InventoryError, Place

MAX_HOSTS = 100_000
"""Most hosts that one range may stand for; more is taken for a typing error."""

_RANGE = re.compile(r"\[(\w{1,9}):(\w{1,9})(?::(\d{1,9}))?\]", re.ASCII)
_NAME = re.compile(r"[^\s\[\],!:*?<>&\x00-\x1f\x7f]+")


def expand(pattern: str, place: Place | None = None) -> list[str]:
    """List the names that ``pattern`` stands for, in order; a name without range is its own list.

    Raises ``InventoryError`` if a range is malformed, empty or too large, or a name is impossible.
    """
    pieces = _RANGE.split(pattern)
    literals, bounds = pieces[::4], zip(pieces[1::4], pieces[2::4], pieces[3::4], strict=True)
    spans = [_span(first, last, step, pattern, place) for first, last, step in bounds]
    _check_count(spans, pattern, place)
    names = [_weave(literals, values) for values in itertools.product(*(span() for span in spans))]
    if not _NAME.fullmatch(names[0]) or names[0].startswith("-"):
        raise InventoryError(
            f"{pattern!r} is not a host name",
            "write a name without spaces and wildcards, or a range such as web[01:20]",
            place,
        )
    return names


def is_range(text: str) -> bool:
    """Tell whether ``text`` holds a range, and is not a name or a glob such as ``web[ab]*``."""
    return _RANGE.search(text) is not None


class _Span:
    """The values from ``start`` to ``stop`` inclusive, each turned into text by ``form``."""

    def __init__(self, start: int, stop: int, step: int, width: int | None) -> None:
        self.numbers = range(start, stop + 1, step)
        self.width = width

    def __len__(self) -> int:
        return len(self.numbers)

    def __call__(self) -> Iterator[str]:
        for number in self.numbers:
            yield chr(number) if self.width is None else str(number).zfill(self.width)


def _span(first: str, last: str, step: str | None, pattern: str, place: Place | None) -> _Span:
    stride = int(step) if step else 1
    if first.isdigit() and last.isdigit():
        span = _Span(int(first), int(last), stride or 1, len(first) if first[0] == "0" else 0)
    elif first.isalpha() and last.isalpha() and len(first) == len(last) == 1:
        span = _Span(ord(first), ord(last), stride or 1, None)
    else:
        raise _bad_range(pattern, "mixes letters and numbers", place)
    if not stride or not len(span):
        raise _bad_range(pattern, "stands for no host", place)
    return span


def _check_count(spans: list[_Span], pattern: str, place: Place | None) -> None:
    count = 1
    for span in spans:
        count *= len(span)
    if count > MAX_HOSTS:
        raise _bad_range(pattern, f"stands for {count:,} hosts, more than {MAX_HOSTS:,}", place)


def _bad_range(pattern: str, what: str, place: Place | None) -> InventoryError:
    remedy = "write it as [first:last] or [first:last:step], such as web[01:20] or db[a:c]"
    return InventoryError(f"the range in {pattern!r} {what}", remedy, place)


def _weave(literals: list[str], values: tuple[str, ...]) -> str:
    return "".join(itertools.chain.from_iterable(zip(literals, (*values, ""), strict=True)))
