"""The tutorial, followed word by word: its files are written, its dialogues run, what they print is compared."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from django.contrib.auth.models import User
from django.test import Client

from tests.docs.blocks import DOCS

if TYPE_CHECKING:
    from tests.docs.project_of_page import ReadersProject

pytestmark = pytest.mark.django_db(transaction=True)


def test_everything_in_the_tutorial_happens_as_it_says(readers_project: Callable[[Path], ReadersProject]) -> None:
    project = readers_project(DOCS / "tutorial.md")
    project.follow()
    plans = [project.namespace[name] for name in ("plan", "second", "third", "both")]
    assert [(plan.state, plan.result) for plan in plans] == [
        ("stopped", "success"),
        ("stopped", "success"),
        ("stopped", "warning"),
        ("stopped", "success"),
    ]


def test_admin_and_api_show_what_the_pages_say(readers_project: Callable[[Path], ReadersProject]) -> None:
    project = readers_project(DOCS / "tutorial.md")
    project.follow()
    client = Client()
    client.force_login(User.objects.create_superuser("reader"))
    plan = project.namespace["third"]
    page = client.get(f"/admin/dynflow_app/executionplan/{plan.pk}/change/").content.decode()
    for seen in ("Done with warnings", "Provision one host", "ConfigureDns", "Skipped", "no DNS for this host"):
        assert seen in page
    assert client.get(f"/dynflow/v1/plans/{plan.pk}/steps/").json()["results"][1]["state"] == "skipped"
