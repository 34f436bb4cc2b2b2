"""Reports in the admin: shown, never changed."""

from __future__ import annotations

import uuid

import pytest
from django.test import Client
from django.urls import reverse

from project.rex.models import HostResult, Report

pytestmark = pytest.mark.django_db


def line(host: str, status: str, error: str = "") -> HostResult:
    """Return a host's line."""
    return {"host": host, "status": status, "exit_code": None, "seconds": 1.5, "error": error}


@pytest.fixture
def report() -> Report:
    """Two hosts, of which the second tries to be clever."""
    results = [line("h1", "succeeded"), line("h2", "failed", "<script>alert(1)</script>")]
    return Report.objects.store(uuid.uuid4(), "uptime", results)


def test_the_list_sums_up(admin_client: Client, report: Report) -> None:
    page = admin_client.get(reverse("admin:rex_report_changelist"))

    assert "1 succeeded, 1 failed" in page.text


def test_a_page_lists_hosts_those_that_did_not_succeed_first(admin_client: Client, report: Report) -> None:
    page = admin_client.get(reverse("admin:rex_report_change", args=[report.pk])).text

    assert page.index("<b>h2</b>") < page.index("<b>h1</b>")
    assert "<script>alert" not in page


def test_nothing_can_be_added_or_changed(admin_client: Client, report: Report) -> None:
    assert admin_client.get(reverse("admin:rex_report_add")).status_code == 403
    url = reverse("admin:rex_report_change", args=[report.pk])
    assert admin_client.post(url, {"command": "rm"}).status_code == 403
