"""Tokens of callback URLs: signed with the project's ``SECRET_KEY``, expiring, each good for one event.

Anybody can read a token, nobody can make or change one. That it is used once only is up to whoever accepts it: the
nonce becomes the unique key of the event.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from django.core.signing import BadSignature, Signer

from dynflow_app import clock
from dynflow_app.conf import settings
from dynflow_app.exceptions import CallbackError, PlanningError
from dynflow_app.payloads.json import check_json

SALT = "dynflow_app.callback"
LONGEST_NAME = 100


@dataclass(frozen=True, slots=True)
class CallbackToken:
    """What a token allows: to send one event of this name to this step."""

    step_id: int
    name: str
    nonce: str


def callback_url(step_id: int, name: str, expires_in: float) -> str:
    """The URL for one POST that sends the event `name` to the step. See `callback_token`.

    Raises `PlanningError` without the setting ``CALLBACK_URL``.
    """
    if not settings.CALLBACK_URL:
        raise PlanningError(
            'callback_url() needs the address of this site: DYNFLOW = {"CALLBACK_URL": '
            '"https://example.com/dynflow/callbacks/"}, where your URLconf includes dynflow_app.callbacks.urls.'
        )
    return f"{settings.CALLBACK_URL.rstrip('/')}/{callback_token(step_id, name, expires_in)}/"


def callback_token(step_id: int, name: str, expires_in: float) -> str:
    """A token that is valid for `expires_in` seconds. Raises ValueError and `NotSerializableError` for a bad name."""
    if not 0 < len(name) <= LONGEST_NAME:
        raise ValueError(f"callback_url({name!r}): the name is text of 1 to {LONGEST_NAME} characters.")
    check_json(name, "name", 1024)
    expires_at = int((clock.now().timestamp() + expires_in) * 1000)
    return Signer(salt=SALT).sign_object([step_id, name, expires_at, secrets.token_urlsafe(16)])


def read_token(token: str) -> CallbackToken:
    """What `token` allows. Raises `CallbackError` with the reason ``changed`` or ``expired``."""
    try:
        step_id, name, expires_at, nonce = Signer(salt=SALT).unsign_object(token)
    except (BadSignature, ValueError):
        raise CallbackError("This is no callback token of ours, or it was changed.", reason="changed") from None
    if clock.now().timestamp() * 1000 >= expires_at:
        raise CallbackError("This callback URL has expired; the action has to hand out a new one.", reason="expired")
    return CallbackToken(step_id, name, nonce)
