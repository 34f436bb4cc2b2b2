"""Who gets what: everybody on every route with every method."""

from __future__ import annotations

import uuid

import pytest
from django.contrib.auth.models import User
from django.test import Client
from rest_framework.test import APIClient

from tests.factories import StepFactory, user

pytestmark = pytest.mark.django_db
OTHER_METHODS = ("post", "put", "patch", "delete", "options")


def routes() -> list[str]:
    """Every route of the API, with a plan that has one step."""
    step = StepFactory(state="success")
    plan = f"/dynflow/v1/plans/{step.plan_id}/"
    return ["/dynflow/v1/plans/", plan, f"{plan}explanation/", f"{plan}steps/", f"{plan}steps/{step.number}/"]


@pytest.fixture
def clients() -> dict[str, APIClient]:
    """Clients by who uses them."""
    users = {
        "nobody": None,
        "no permission": user("plain", is_staff=False),
        "staff": user("staff"),
        "changer": user("changer", "change_executionplan"),
        "viewer": user("viewer", "view_executionplan", is_staff=False),
        "superuser": User.objects.create_superuser("root"),
    }
    found = {name: APIClient() for name in users}
    for name, client in found.items():
        if users[name]:
            client.force_authenticate(users[name])
    return found


@pytest.mark.parametrize("who", ["nobody", "no permission", "staff", "changer"])
def test_others_get_nothing(clients: dict[str, APIClient], who: str) -> None:
    unknown = f"/dynflow/v1/plans/{uuid.uuid4()}/"
    for url in [*routes(), unknown, f"{unknown}steps/", f"{unknown}steps/1/", "/dynflow/v1/plans/?typo=1"]:
        for method in ("get", "head", *OTHER_METHODS):
            response = getattr(clients[who], method)(url)
            assert response.status_code == 403, (method, url)
            assert response.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("who", ["viewer", "superuser"])
def test_viewers_only_look(clients: dict[str, APIClient], who: str) -> None:
    for url in routes():
        for method in ("get", "head"):
            assert getattr(clients[who], method)(url).status_code == 200, (method, url)
        for method in OTHER_METHODS:
            response = getattr(clients[who], method)(url)
            assert response.status_code == 405, (method, url)
            assert response.json()["type"] == "method-not-allowed"


def test_an_inactive_superuser_gets_nothing(clients: dict[str, APIClient]) -> None:
    gone = APIClient()
    gone.force_authenticate(User.objects.create_superuser("gone", is_active=False))

    assert gone.get("/dynflow/v1/plans/").status_code == 403


def test_a_session_of_the_project_is_enough() -> None:
    client = Client()
    client.force_login(user("viewer", "view_executionplan"))

    assert client.get("/dynflow/v1/plans/").json() == {"next": None, "previous": None, "results": []}
    assert client.get("/dynflow/v1/plans/", headers={"Accept": "text/html"}).status_code == 200
    page = client.get("/dynflow/v1/plans/x/", headers={"Accept": "text/html"})
    assert page.status_code == 404
    assert page.headers["Content-Type"].startswith("text/html")


@pytest.mark.parametrize(
    "path",
    ["nonsense/", "00000000-0000-0000-0000-000000000000/", "nonsense/steps/", "nonsense/steps/1/", "PLAN/steps/0/",
     "nonsense/explanation/", "00000000-0000-0000-0000-000000000000/explanation/",
     "PLAN/steps/99/", "PLAN/steps/x/", "PLAN/steps/²/", f"PLAN/steps/{'9' * 50}/"],
)  # fmt: skip
def test_what_does_not_exist_is_the_same_everywhere(viewer: APIClient, path: str) -> None:
    plan = StepFactory(action__number=1).plan
    response = viewer.get(f"/dynflow/v1/plans/{path.replace('PLAN', str(plan.pk))}")

    assert response.status_code == 404
    assert response.json() == {
        "type": "not-found",
        "title": "Not Found",
        "status": 404,
        "detail": "There is nothing here.",
    }
