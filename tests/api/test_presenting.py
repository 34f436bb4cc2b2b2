"""Middleware decides what of inputs and outputs is shown; storage does not change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.test import Client

from dynflow_app.actions.middleware import Middleware
from dynflow_app.models import Action
from tests.factories import StepFactory

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper


class Discreet(Middleware):
    """Hides hosts."""

    def present(self, action_name: str, data: dict[str, Any]) -> dict[str, Any]:
        return {key: "hidden" if key == "host" else value for key, value in data.items()}


@pytest.mark.django_db
def test_the_api_and_the_admin_show_what_middleware_presents(admin_client: Client, settings: SettingsWrapper) -> None:
    # given a stored input, and middleware that hides a part of it
    settings.DYNFLOW = {**settings.DYNFLOW, "MIDDLEWARE": (f"{__name__}.Discreet",)}
    step = StepFactory(action__input={"host": "h1.example.com", "size": 3})

    # when it is looked at
    from_api = admin_client.get(f"/dynflow/v1/plans/{step.plan_id}/steps/{step.number}/").json()
    page = admin_client.get(f"/admin/dynflow_app/executionplan/{step.plan_id}/change/").content.decode()

    # then that part is hidden, and still stored
    assert from_api["input"] == {"host": "hidden", "size": 3}
    assert "h1.example.com" not in page
    assert Action.objects.get().input["host"] == "h1.example.com"
