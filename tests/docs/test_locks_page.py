"""What the how-to about locks promises; its examples run on the real engine."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group

from dynflow_app import OnConflict
from dynflow_app.exceptions import AlreadyActiveError
from dynflow_app.triggering import trigger
from tests.docs.blocks import DOCS, table
from tests.docs.following import FollowedPage
from tests.engine import Engine, outcome

pytestmark = pytest.mark.django_db(transaction=True)


def test_lock_resources(page: Callable[..., FollowedPage], engine: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    patched: list[str] = []
    cleaned: list[int] = []
    host, rack = Group.objects.create(name="web-1"), Group.objects.create(name="rack 3")
    howto = page(
        "lock-resources",
        patch=patched.append,
        clean=lambda: cleaned.append(1),
        get_host=lambda key: Group.objects.get(pk=key),
        host=host,
    )
    howto.follow(3)

    # somebody has the host
    holder = trigger(howto["Rebuild"], host)
    engine.decide()
    waiting, failing, skipping = (trigger(howto[name], host, rack) for name in ("PatchHost", "PatchNow", "PatchIfIdle"))
    engine.decide()
    assert [outcome(plan) for plan in (waiting, failing, skipping)] == [
        "planned/pending", "stopped/error", "stopped/cancelled"
    ]  # fmt: skip
    assert str(holder.pk) in failing.error["message"]

    # and gives it back before it ends
    engine.run()
    assert (outcome(holder), outcome(waiting)) == ("running/pending", "stopped/success")
    assert patched == ["web-1", "web-1"]

    # an operator takes it from another one
    other = trigger(howto["Rebuild"], host)
    engine.decide()
    howto["plan"] = other
    howto.follow()
    engine.decide()
    assert [lock.state for lock in other.locks.all()] == ["unlocked"]

    # everybody can see who has it
    trigger(howto["Rebuild"], host)
    engine.decide()
    howto.follow()
    assert capsys.readouterr().out == "held hosts.actions.Rebuild\n"
    assert howto["plans_for"](host).count() == 6
    howto.follow()
    body = howto["HostSerializer"](host).data
    assert [lock["state"] for lock in body["busy_with"]] == ["held"]
    assert howto["HostAdmin"](Group, admin.site).busy_with(host) == "–"  # noqa: RUF001 - nobody asked yet

    # and only one cleans up
    howto.follow()
    first = trigger(howto["Cleanup"])
    with pytest.raises(AlreadyActiveError):
        trigger(howto["Cleanup"])
    engine.run(first)
    assert (outcome(first), cleaned) == ("stopped/success", [1])


def test_the_table_has_all_values() -> None:
    rows = [row[0] for row in table(DOCS / "how-to" / "lock-resources.md", "## Not wait: `on_conflict`")]
    names = [row.partition("`")[0] or row.split("`")[1] for row in rows]
    assert names == [f"OnConflict.{value.name}" for value in OnConflict]
