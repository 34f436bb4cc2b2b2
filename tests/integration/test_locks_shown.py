"""Waiting is visible from the holder, the waiter and the object: explained, on pages, in bodies, in queries."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, Permission, User
from django.test import Client, RequestFactory
from django.urls import reverse
from pytest_django import DjangoAssertNumQueries
from rest_framework import serializers
from rest_framework.test import APIClient

from dynflow_app.admin.locks import BusyWithMixin
from dynflow_app.api.locks import BusyWithMixin as BusyWithSerializerMixin
from dynflow_app.models import ExecutionPlan, ResourceLock
from dynflow_app.models.resource_lock import resource_key
from dynflow_app.reading.explaining import FindingCode, explain
from dynflow_app.reading.holders import holders_of, locks_for, plans_for
from dynflow_app.triggering import TriggerOptions, trigger
from tests.engine import Engine
from tests.factories import user
from tests.integration.test_locks import use
from tests.testapp import locking
from tests.testapp.journal import Journal

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def line(engine: Engine, journal: Journal) -> tuple[Group, list[ExecutionPlan]]:
    """A host, and four plans that want it: one has it, the others are in line."""
    host = Group.objects.create(name="h1")
    holder = trigger(locking.UseHostWhile, "a", host, options=TriggerOptions(label="Update <h1>"))
    plans = [holder, use("b", host), use("c", shared=(host,)), use("d", host)]
    engine.run()
    return host, plans


# --- explain -------------------------------------------------------------------------------------------------------


def lock_finding(plan: ExecutionPlan) -> Any:
    (finding,) = [found for found in explain(plan) if found.code is FindingCode.LOCK_WAITS]
    return finding


def test_explain_names_holder_resource_time_and_position(line: tuple[Group, list[ExecutionPlan]]) -> None:
    """Scenario 52."""
    host, (holder, second, third, fourth) = line
    found = lock_finding(second)
    assert f"auth.group {host.pk}: plan {holder.pk} (Update <h1>, running) has held it exclusively for" in found.message
    assert found.message.endswith("It is the first in line.")
    assert f"where plan is {holder.pk}" in found.remedy
    assert found.since is not None
    assert "1 plan is before it in line." in lock_finding(third).message
    assert f"plan {second.pk} (UseHostWhile, planned) wants it exclusively, and came before" in (
        lock_finding(third).message
    )
    assert "2 plans are before it in line." in lock_finding(fourth).message


def test_a_plan_that_has_its_locks_waits_for_none(line: tuple[Group, list[ExecutionPlan]]) -> None:
    assert FindingCode.LOCK_WAITS not in [found.code for found in explain(line[1][0])]


def test_only_what_keeps_it_waiting_is_named(engine: Engine, journal: Journal) -> None:
    use("a", "taken", shared=("shared",))
    plan = use("b", "taken", "free", shared=("shared",))
    engine.run()
    assert "'taken'" in lock_finding(plan).message


def test_explaining_costs_the_same_in_a_long_line(
    engine: Engine, journal: Journal, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    use("a", "h1")
    plans = [use(str(n), "h1") for n in range(60)]
    engine.run()
    with django_assert_max_num_queries(6):
        assert "59 plans are before it" in lock_finding(plans[-1]).message


# --- queries -------------------------------------------------------------------------------------------------------


def test_locks_for_an_object_lists_holders_then_the_line(
    line: tuple[Group, list[ExecutionPlan]], django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    host, plans = line
    with django_assert_num_queries(1):
        found = [(lock.plan, lock.state) for lock in locks_for(host)]
    assert found == [(plans[0], "held"), *((plan, "waiting") for plan in plans[1:])]
    assert not locks_for("something else").exists()


def test_holders_of_many_objects_are_one_query(
    line: tuple[Group, list[ExecutionPlan]], django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    host, (holder, *_) = line
    free = [Group.objects.create(name=f"free {n}") for n in range(50)]
    with django_assert_num_queries(1):
        found = {key: [lock.plan for lock in locks] for key, locks in holders_of([host, *free]).items()}
    assert found == {resource_key(host): [holder]}


def test_plans_for_an_object_are_those_that_lock_or_link_it(
    line: tuple[Group, list[ExecutionPlan]], engine: Engine
) -> None:
    host, plans = line
    linked = use("e", links=(host,))
    use("f", "another")
    assert set(plans_for(host)) == {*plans, linked}


# --- admin ---------------------------------------------------------------------------------------------------------


def test_the_page_of_a_plan_shows_locks_and_links(line: tuple[Group, list[ExecutionPlan]]) -> None:
    host, (holder, second, *_) = line
    viewer = Client()
    viewer.force_login(user("viewer", "view_executionplan"))

    def page(plan: ExecutionPlan) -> str:
        return viewer.get(f"/admin/dynflow_app/executionplan/{plan.pk}/change/").content.decode()

    assert f"auth.group {host.pk}" in page(holder)
    waiting = page(second)
    assert f'<a href="/admin/dynflow_app/executionplan/{holder.pk}/change/">Update &lt;h1&gt;</a> (held)' in waiting
    assert "<td>waiting</td>" in waiting
    assert "Locks and links" not in page(trigger(locking.UseHost, "no locks"))
    assert "auth.group" in page(trigger(locking.UseHost, "links", links=(host,)))


class GroupAdmin(BusyWithMixin):
    """An admin of a project."""

    list_display = ("name", "busy_with")


@pytest.mark.parametrize(("permission", "shows"), [("view_executionplan", "Update &lt;h1&gt;</a>"), ("", "busy")])
def test_the_admin_of_any_model_says_what_it_is_busy_with(
    line: tuple[Group, list[ExecutionPlan]], permission: str, shows: str
) -> None:
    host, _plans = line
    Group.objects.create(name="free")
    request = RequestFactory().get("/")
    request.user = user("somebody", *filter(None, [permission]))
    request.user.user_permissions.add(*_group_permissions())
    page = GroupAdmin(Group, admin.site)

    # in the list
    changes = page.get_changelist_instance(request)
    texts = {group.name: page.busy_with(group) for group in changes.result_list}
    assert shows in texts["h1"]
    assert texts["free"] == "–"  # noqa: RUF001 - a dash

    # and on the page of the object
    assert shows in page.busy_with(page.get_object(request, str(host.pk)))
    assert "busy_with" in page.get_readonly_fields(request, host)
    assert "busy_with" not in page.get_readonly_fields(request)


def _group_permissions() -> Any:
    return Permission.objects.filter(codename__in=("view_group", "change_group"))


def test_the_list_asks_once(
    line: tuple[Group, list[ExecutionPlan]], django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    Group.objects.bulk_create(Group(name=f"free {n}") for n in range(50))
    request = RequestFactory().get("/")
    request.user = User.objects.create_superuser("root")
    page = GroupAdmin(Group, admin.site)
    with django_assert_max_num_queries(4):
        changes = page.get_changelist_instance(request)
        assert len([page.busy_with(group) for group in changes.result_list]) == 51


# --- API -----------------------------------------------------------------------------------------------------------


def test_the_body_of_a_plan_has_its_locks(line: tuple[Group, list[ExecutionPlan]], engine: Engine) -> None:
    host, (_holder, second, *_) = line
    viewer = APIClient()
    viewer.force_authenticate(user("viewer", "view_executionplan", is_staff=False))
    body = viewer.get(f"/dynflow/v1/plans/{second.pk}/")
    (lock,) = body.json()["locks"]
    assert (lock["plan"], lock["resource"]) == (str(second.pk), f"auth.group:{host.pk}")
    assert (lock["shared"], lock["state"]) == (False, "waiting")
    again = viewer.get(f"/dynflow/v1/plans/{second.pk}/", headers={"If-None-Match": body["ETag"]})
    assert again.status_code == 304

    # when the state of the lock changes, so does the version
    ResourceLock.objects.filter(plan=second).update(state="held")
    again = viewer.get(f"/dynflow/v1/plans/{second.pk}/", headers={"If-None-Match": body["ETag"]})
    assert again.status_code == 200
    ResourceLock.objects.filter(plan=second).update(state="waiting")


class GroupSerializer(BusyWithSerializerMixin, serializers.ModelSerializer[Group]):
    """A serializer of a project."""

    class Meta:
        model = Group
        fields = ("name",)


def test_the_body_of_any_model_says_what_it_is_busy_with(
    line: tuple[Group, list[ExecutionPlan]], django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    host, (holder, *_) = line
    Group.objects.bulk_create(Group(name=f"free {n}") for n in range(20))
    with django_assert_num_queries(1):
        body: Any = GroupSerializer(host).data
    assert [(lock["plan"], lock["state"]) for lock in body["busy_with"]] == [(str(holder.pk), "held")]
    for many in (Group.objects.order_by("pk"), list(Group.objects.order_by("pk"))):
        with django_assert_num_queries(1 if isinstance(many, list) else 2):
            bodies: Any = GroupSerializer(many, many=True).data
        assert [len(each["busy_with"]) for each in bodies] == [1] + [0] * 20


def test_the_page_of_a_holder_says_how_many_wait_for_it(engine: Engine, admin_client: Client) -> None:
    # given a plan that holds a resource, and two that want it
    holder, *waiting = [trigger(locking.UseHost, str(number), "h1") for number in range(3)]
    engine.decide()

    # when somebody looks at it
    shown = admin_client.get(reverse("admin:dynflow_app_executionplan_change", args=[holder.pk])).content.decode()
    assert "2 plans wait for it" in shown

    # then those who wait do not say so of themselves
    last = admin_client.get(reverse("admin:dynflow_app_executionplan_change", args=[waiting[-1].pk])).content.decode()
    assert "wait for it" not in last
