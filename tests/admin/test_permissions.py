"""Nobody changes anything in the console; who may look is Django's view permission."""

from __future__ import annotations

import pytest
from django.contrib import admin
from django.test import Client
from django.urls import reverse

from dynflow_app.models import ExecutionPlan, World
from tests.factories import PlanFactory, WorldFactory, user

pytestmark = pytest.mark.django_db


def pages(model: str) -> dict[str, str]:
    """Every page of a model."""
    pk = (PlanFactory() if model == "executionplan" else WorldFactory()).pk
    return {
        "changelist": reverse(f"admin:dynflow_app_{model}_changelist"),
        "change": reverse(f"admin:dynflow_app_{model}_change", args=[pk]),
        "history": reverse(f"admin:dynflow_app_{model}_history", args=[pk]),
        "add": reverse(f"admin:dynflow_app_{model}_add"),
        "delete": reverse(f"admin:dynflow_app_{model}_delete", args=[pk]),
    }


LOOKING = ("changelist", "change", "history")


@pytest.mark.parametrize("model", ["executionplan", "world"])
def test_without_staff_status_or_permission_nothing_is_shown(model: str) -> None:
    outsider, colleague = Client(), Client()
    outsider.force_login(user("outsider", f"view_{model}", is_staff=False))
    colleague.force_login(user("colleague"))
    for url in pages(model).values():
        assert Client().get(url).status_code == 302
        assert outsider.get(url).status_code == 302
        assert colleague.get(url).status_code == 403
        assert colleague.post(url).status_code == 403


@pytest.mark.parametrize("model", ["executionplan", "world"])
@pytest.mark.parametrize("client_name", ["viewer", "admin_client"])
def test_viewers_and_even_superusers_only_look(model: str, client_name: str, request: pytest.FixtureRequest) -> None:
    client: Client = request.getfixturevalue(client_name)
    for name, url in pages(model).items():
        assert client.get(url).status_code == (200 if name in LOOKING else 403), name
        if name not in LOOKING:
            assert client.post(url, {"post": "yes"}).status_code == 403
    assert client.post(pages(model)["change"], {"label": "mine"}).status_code == 403
    client.post(pages(model)["changelist"], {"action": "delete_selected", "_selected_action": ["1"], "post": "yes"})
    assert not ExecutionPlan.objects.filter(label="mine").exists()
    assert ExecutionPlan.objects.exists() or World.objects.exists()


def test_only_plans_schedules_and_worlds_are_registered() -> None:
    ours = {model.__name__ for model in admin.site._registry if model._meta.app_label == "dynflow_app"}

    assert ours == {"ExecutionPlan", "Schedule", "World"}
