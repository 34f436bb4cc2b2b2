"""Reports in the admin: shown, never changed."""

from __future__ import annotations

import uuid

import pytest
from django.test import Client
from django.urls import reverse

from project.rex.inventory import Host
from project.rex.models import HostResult, HostStatus, Report

pytestmark = pytest.mark.django_db


@pytest.fixture
def report() -> Report:
    """A host for each status; that of the one that failed tries to be clever."""
    prepared = Report.objects.prepare("uptime", [Host(f"h-{status}") for status in HostStatus if status != "pending"])
    report = Report.objects.begin(prepared.pk, uuid.uuid4())
    for result in report.results.all():
        error = "<script>alert(1)</script>" if result.host == "h-failed" else ""
        HostResult.objects.record(result.pk, uuid.uuid4(), status=result.host[2:], error=error)
    report.close()
    return report


def test_the_list_sums_up(admin_client: Client, report: Report) -> None:
    page = admin_client.get(reverse("admin:rex_report_changelist"))

    assert "1 succeeded, 1 failed, 1 timed out, 1 unreachable, 1 lost, 1 cancelled" in page.text


def test_a_page_lists_hosts_those_that_did_not_succeed_first(admin_client: Client, report: Report) -> None:
    page = admin_client.get(reverse("admin:rex_report_change", args=[report.pk])).text

    assert page.index("<b>h-cancelled</b>") < page.index("<b>h-succeeded</b>")
    assert "<script>alert" not in page
    assert reverse("admin:dynflow_app_executionplan_change", args=[report.plan_id]) in page


def test_each_status_leads_to_its_hosts(admin_client: Client, report: Report) -> None:
    page = admin_client.get(reverse("admin:rex_report_change", args=[report.pk])).text
    url = f"{reverse('admin:rex_hostresult_changelist')}?report__id__exact={report.pk}&amp;status__exact=lost"
    assert f'<a href="{url}">1 lost</a>' in page

    hosts = admin_client.get(url.replace("&amp;", "&")).text

    assert "h-lost" in hosts
    assert "h-succeeded" not in hosts
    result = report.results.get(host="h-lost")
    assert reverse("admin:dynflow_app_executionplan_change", args=[result.plan_id]) in hosts


def test_nothing_can_be_added_or_changed(admin_client: Client, report: Report) -> None:
    assert admin_client.get(reverse("admin:rex_report_add")).status_code == 403
    assert admin_client.get(reverse("admin:rex_hostresult_add")).status_code == 403
    url = reverse("admin:rex_report_change", args=[report.pk])
    assert admin_client.post(url, {"command": "rm"}).status_code == 403
