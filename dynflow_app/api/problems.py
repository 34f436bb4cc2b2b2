"""Errors as problem details (RFC 9457). Used by our views alone; the project's handler is not touched."""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import exception_handler

CONTENT_TYPE = "application/problem+json"
NOT_FOUND = "There is nothing here."
_TYPES = {
    400: "invalid-input",
    401: "not-permitted",
    403: "not-permitted",
    404: "not-found",
    405: "method-not-allowed",
    406: "not-acceptable",
    429: "throttled",
}


class InvalidInput(exceptions.ValidationError):
    """Query parameters that mean nothing: name to what is wrong with it."""

    def __init__(self, errors: dict[str, str], code: str = "invalid") -> None:
        super().__init__({name: [text] for name, text in errors.items()}, code=code)


def handle(error: Exception, context: dict[str, Any]) -> Response | None:
    """The answer to `error`; None leaves it to Django."""
    if isinstance(error, Http404):
        error = exceptions.NotFound()
    elif isinstance(error, PermissionDenied):
        error = exceptions.PermissionDenied()
    response = exception_handler(error, context)
    if response is None or not isinstance(error, exceptions.APIException):
        return response
    response.data = _body(error, response.status_code)
    renderer = getattr(context.get("request"), "accepted_renderer", None)
    if getattr(renderer, "format", "json") == "json":  # a browsable page stays a page
        response.content_type = CONTENT_TYPE
    response["Cache-Control"] = "no-store"
    return response


def _body(error: exceptions.APIException, status: int) -> dict[str, Any]:
    body = {"type": _TYPES.get(status, "about:blank"), "title": HTTPStatus(status).phrase, "status": status}
    if isinstance(error, exceptions.ValidationError):
        errors = list(_errors(error.get_full_details()))
        return {**body, "detail": "Some parameters are not valid.", "errors": errors}
    return {**body, "detail": NOT_FOUND if status == HTTPStatus.NOT_FOUND else str(error.detail)}


def _errors(details: Any, name: str = "") -> Iterator[dict[str, str]]:
    if isinstance(details, list):
        for item in details:
            yield from _errors(item, name)
    elif isinstance(details, dict) and "message" in details and "code" in details:
        yield {"parameter": name, "detail": str(details["message"]), "code": str(details["code"])}
    elif isinstance(details, dict):
        for key, item in details.items():
            yield from _errors(item, str(key))
