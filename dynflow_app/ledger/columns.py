"""Columns of models as PostgreSQL takes them in bulk: which vary from row to row, and what the others hold."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import NOT_PROVIDED, Field, JSONField, Model

NULL = "\\N"
_SPECIAL = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


@dataclass(frozen=True, slots=True)
class Columns:
    """All columns of a table; those named in `varying` are given for each row, in that order."""

    names: tuple[str, ...]
    constants: dict[str, str]
    """What the others hold, as COPY writes it."""

    @property
    def template(self) -> str:
        """A line of COPY with a place for each varying column, to be filled by name."""
        places = [self.constants[n].replace("%", "%%") if n in self.constants else f"%({n})s" for n in self.names]
        return "\t".join(places) + "\n"


def columns_of(model: type[Model], varying: Sequence[str]) -> Columns:
    """The columns of a model. Raises ValueError if one that has no fixed default does not vary."""
    constants = constants_of(model, varying)
    fields = [field for field in model._meta.concrete_fields if field.column in (*varying, *constants)]
    by_column = {str(field.column): field for field in fields}
    texts = {name: written(by_column[name], value) for name, value in constants.items()}
    return Columns(tuple(by_column), texts)


def constants_of(model: type[Model], varying: Collection[str]) -> dict[str, Any]:
    """What the columns hold that do not vary, but for those that the database fills itself. Raises ValueError if one
    that has no fixed default does not vary."""
    constants: dict[str, Any] = {}
    for field in model._meta.concrete_fields:
        is_key = field.primary_key and field.get_internal_type() == "BigAutoField"
        if field.column in varying or field.db_default is not NOT_PROVIDED or is_key:
            continue
        default = field.default
        if default is NOT_PROVIDED and not field.null and not field.empty_strings_allowed:
            raise ValueError(f"{model.__name__}.{field.name} has no default, so it has to be given.")
        if callable(default) and default not in (list, dict, NOT_PROVIDED):
            raise ValueError(f"{model.__name__}.{field.name} has a default that varies, so it has to be given.")
        constants[str(field.column)] = field.get_default()
    return constants


def written(field: Field[Any, Any], value: Any) -> str:
    """A value as COPY writes it."""
    if value is None:
        return NULL
    if isinstance(field, JSONField):
        return json_text(value)
    if isinstance(value, bool):
        return "t" if value else "f"
    if isinstance(value, str):
        return text(value)
    return value.isoformat() if isinstance(value, datetime) else str(value)


def text(value: str) -> str:
    """Text as COPY writes it."""
    return str(value).translate(_SPECIAL)


def json_text(value: Any) -> str:
    """JSON as COPY writes it."""
    return json.dumps(value).replace("\\", "\\\\") if value else json.dumps(value)
