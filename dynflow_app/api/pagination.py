"""Pages by position instead of number: constant cost, and nothing is shown twice when rows are added."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import Model, Q, QuerySet
from rest_framework.request import Request

from dynflow_app.api.problems import InvalidInput

PAGE_SIZE = 50
MAX_PAGE_SIZE = 200
PARAMETERS = frozenset({"cursor", "page_size"})


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows, and the cursors of the pages around them."""

    rows: list[Any]
    next: str | None
    previous: str | None


@dataclass(frozen=True, slots=True)
class Keyset:
    """Pages of a queryset ordered by `keys`, all in one direction; together they are unique."""

    keys: tuple[str, ...]
    descending: bool = False

    def page(self, request: Request, rows: QuerySet[Any]) -> Page:
        """The page that the request asks for: one query. Raises `InvalidInput`."""
        size = _page_size(request)
        cursor = request.query_params.get("cursor")
        backwards, position = self._decode(cursor, rows.model) if cursor else (False, None)
        down = self.descending != backwards
        if position is not None:
            rows = rows.filter(_beyond(self.keys, position, down))
        found = list(rows.order_by(*(f"-{key}" if down else key for key in self.keys))[: size + 1])
        more = len(found) > size
        found = found[:size]
        if backwards:
            found.reverse()
        return Page(
            rows=found,
            next=self._encode(found, backwards=False) if found and (more or backwards) else None,
            previous=self._encode(found, backwards=True) if found and (more if backwards else position) else None,
        )

    def _encode(self, rows: list[Any], *, backwards: bool) -> str:
        row = rows[0 if backwards else -1]
        position = [getattr(row, key) for key in self.keys]
        text = [value.isoformat() if hasattr(value, "isoformat") else str(value) for value in position]
        return base64.urlsafe_b64encode(json.dumps([backwards, *text]).encode()).decode().rstrip("=")

    def _decode(self, cursor: str, model: type[Model]) -> tuple[bool, list[Any]]:
        try:
            padded = cursor + "=" * (-len(cursor) % 4)
            backwards, *text = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
            fields: list[Any] = [model._meta.get_field(key) for key in self.keys]
            position = [field.clean(str(value), None) for field, value in zip(fields, text, strict=True)]
        except (ValueError, TypeError, ValidationError):
            raise InvalidInput({"cursor": "Not a cursor of this list."}) from None
        return bool(backwards), position


def _page_size(request: Request) -> int:
    given = request.query_params.get("page_size")
    if given is None:
        return PAGE_SIZE
    if not (given.isascii() and given.isdigit() and len(given) < 6 and 1 <= int(given) <= MAX_PAGE_SIZE):
        raise InvalidInput({"page_size": f"A number from 1 to {MAX_PAGE_SIZE}."})
    return int(given)


def _beyond(keys: tuple[str, ...], position: list[Any], down: bool) -> Q:
    """Rows after `position`. The first condition alone lets the database use the index."""
    side = "lt" if down else "gt"
    condition = Q()
    for key, value in reversed(list(zip(keys, position, strict=True))):
        further = Q(**{f"{key}__{side}": value})
        condition = further | (Q(**{key: value}) & condition) if condition else further
    return Q(**{f"{keys[0]}__{side}e": position[0]}) & condition
