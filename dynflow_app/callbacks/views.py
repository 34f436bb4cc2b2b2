"""What callback URLs lead to: one POST becomes one event of one step.

The token in the address is the only credential. It is never logged, and what is refused before anybody has shown a
valid one says nothing about what exists.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

from django.db import transaction
from django.http import HttpRequest, JsonResponse, UnreadablePostError
from django.views.decorators.csrf import csrf_exempt

from dynflow_app import control
from dynflow_app.callbacks.tokens import CallbackToken, read_token
from dynflow_app.conf import settings
from dynflow_app.exceptions import CallbackError, DuplicateEventError, NotSerializableError, WrongStateError
from dynflow_app.models import Step
from dynflow_app.models.base import is_outage
from dynflow_app.payloads.json import check_json

BODY_LIMIT = 64 * 1024
"""Bytes."""
RETRY_AFTER = 5
"""Seconds, while the database is away."""


class _RefusedError(Exception):
    """The answer is a problem."""

    def __init__(self, status: HTTPStatus, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.status, self.kind, self.detail = status, kind, detail


@csrf_exempt  # no cookie counts here: whoever has the token may send the event, and nobody else
@transaction.non_atomic_requests  # "accepted" has to be true when it is said
def receive(request: HttpRequest, token: str) -> JsonResponse:
    """Send the event that `token` allows, with the posted JSON as its data (none: None).

    202 if it is stored; 404 changed token or no such step; 409 token used, or step finished; 410 expired; 400, 413,
    415 for the body; 405 for other methods; 503 while the database is away. Errors are problem details (RFC 9457).
    """
    try:
        if request.method != "POST":
            raise _RefusedError(HTTPStatus.METHOD_NOT_ALLOWED, "method-not-allowed", "Callbacks take POST.")
        _send(_allowed(token), _posted(request))
    except _RefusedError as refused:
        return _problem(refused)
    return JsonResponse({"accepted": True}, status=HTTPStatus.ACCEPTED, headers={"Cache-Control": "no-store"})


def _allowed(token: str) -> CallbackToken:
    try:
        return read_token(token)
    except CallbackError as error:
        if vars(error)["reason"] == "expired":
            raise _RefusedError(HTTPStatus.GONE, "expired", str(error)) from None
        raise _not_found() from None


def _posted(request: HttpRequest) -> Any:
    """The body as JSON. Never reads more than the limit, whatever length was declared."""
    try:
        body = request.read(BODY_LIMIT + 1)
        if len(body) > BODY_LIMIT:
            raise _RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-large", f"At most {BODY_LIMIT} bytes.")
        if not body:
            return None
        kind = request.content_type or ""
        if kind != "application/json" and not kind.endswith("+json"):
            raise _RefusedError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", "Post application/json.")
        data = json.loads(body)
        check_json(data, "data", settings.PAYLOAD_LIMIT)
    except NotSerializableError as error:
        raise _RefusedError(HTTPStatus.BAD_REQUEST, "invalid-input", str(error)) from None
    except (ValueError, RecursionError, UnreadablePostError):
        raise _RefusedError(HTTPStatus.BAD_REQUEST, "invalid-input", "The body is not JSON.") from None
    return data


def _send(token: CallbackToken, data: Any) -> None:
    try:
        step = Step.objects.filter(pk=token.step_id).first()
        if step is None:
            raise _not_found()
        control.send_event(step, token.name, data, key=token.nonce, by="callback")
    except DuplicateEventError:
        raise _RefusedError(HTTPStatus.CONFLICT, "used", "This callback URL was used before.") from None
    except WrongStateError:
        raise _RefusedError(HTTPStatus.CONFLICT, "finished", "Nobody waits for this callback any more.") from None
    except Exception as error:
        if not is_outage(error):
            raise
        detail = "The event was not stored. Try again later."
        raise _RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", detail) from None


def _not_found() -> _RefusedError:
    return _RefusedError(HTTPStatus.NOT_FOUND, "not-found", "There is nothing here.")


def _problem(refused: _RefusedError) -> JsonResponse:
    status = refused.status
    body = {"type": refused.kind, "title": status.phrase, "status": status.value, "detail": refused.detail}
    response = JsonResponse(body, status=status, content_type="application/problem+json")
    response["Cache-Control"] = "no-store"
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        response["Allow"] = "POST"
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        response["Retry-After"] = str(RETRY_AFTER)
    response._has_been_logged = True  # type: ignore[attr-defined]  # or Django logs the path, and so the token
    return response
