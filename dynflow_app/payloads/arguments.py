"""Arguments of plans that are planned later: JSON in which model instances are references to their rows.

``{"$model": "app.model", "pk": 7}`` stands for an instance; it is read when the plan is planned, so it is the row as it
is then. Users' data cannot have that key (`encode` refuses it).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from django.apps import apps
from django.core.exceptions import ObjectDoesNotExist
from django.db.models import Model

from dynflow_app.conf import settings
from dynflow_app.exceptions import NotSerializableError, PlanningError
from dynflow_app.payloads.json import check_json
from dynflow_app.payloads.sealing import seal, unseal

MODEL_KEY = "$model"


def encode(args: Iterable[Any], kwargs: Mapping[str, Any], *, sensitive: Collection[str] = ()) -> dict[str, Any]:
    """The stored form of the arguments of ``plan()``; named ones called as in `sensitive` are sealed.

    Raises `NotSerializableError` for what JSON does not keep, other than saved model instances.
    """
    stored = {"args": _encoded(list(args), "args"), "kwargs": _encoded(dict(kwargs), "kwargs")}
    check_json(stored, "the arguments", settings.PAYLOAD_LIMIT)
    sealed: dict[str, Any] = seal(stored, sensitive)
    return sealed


def decode(stored: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """What `encode` was given. Reads the rows of model instances, one query each.

    Raises `PlanningError` if one is gone.
    """
    opened = unseal(dict(stored))
    return _decoded(opened.get("args", [])), _decoded(opened.get("kwargs", {}))


def _encoded(value: Any, path: str) -> Any:
    if isinstance(value, Model):
        if value.pk is None:
            raise NotSerializableError(f"{path} is an instance of {type(value).__name__} that is not saved.", path=path)
        return {MODEL_KEY: value._meta.label_lower, "pk": value._meta.pk.value_to_string(value)}
    if isinstance(value, list):
        return [_encoded(item, f"{path}[{n}]") for n, item in enumerate(value)]
    if isinstance(value, dict):
        if MODEL_KEY in value:
            raise NotSerializableError(f"{path} has the reserved key {MODEL_KEY!r}; name it otherwise.", path=path)
        return {key: _encoded(item, f"{path}.{key}") for key, item in value.items()}
    return value


def _decoded(value: Any) -> Any:
    if isinstance(value, dict):
        if MODEL_KEY in value:
            return _instance(value[MODEL_KEY], value["pk"])
        return {key: _decoded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_decoded(item) for item in value]
    return value


def _instance(label: str, key: str) -> Model:
    try:
        found: Model = apps.get_model(label)._base_manager.get(pk=key)
    except LookupError:
        raise PlanningError(f"An argument of this plan is a {label}, which is no model any more.") from None
    except ObjectDoesNotExist:
        raise PlanningError(f"An argument of this plan, {label} {key}, was deleted before it was planned.") from None
    return found
