"""What the how-tos promise about plans that start later, and about sub-plans: the examples run on the real engine."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dynflow_app import control
from dynflow_app.models import ExecutionPlan
from dynflow_app.triggering import trigger
from tests.docs.following import FollowedPage
from tests.engine import Engine, outcome

pytestmark = pytest.mark.django_db(transaction=True)
Open = Callable[..., FollowedPage]


def test_what_is_planned_later_starts_in_order(page: Open, engine: Engine) -> None:
    printed: list[int] = []

    def print_report(month: int, customer: str) -> int:
        printed.append(month)
        return 1

    found = page("start-plans-later", print_report=print_report)
    found.follow(2)
    engine.run(found["soon"])
    assert printed == [10]
    assert outcome(found["after"]) == "scheduled/pending"

    # when it is tonight, then the other two follow one another
    engine.pass_time(8 * 3600 + 1)
    engine.run()
    assert printed == [10, 11, 12]
    assert outcome(found["after"]) == "stopped/success"


def test_hosts_that_failed_have_another_try_when_their_parent_is_resumed(page: Open, engine: Engine) -> None:
    down = {"web-2"}
    updated: list[str] = []

    def update(host: str) -> None:
        if host in down:
            raise ConnectionError(host)
        updated.append(host)

    found = page("make-sub-plans", update=update)
    found.follow(2)
    plan = engine.run(found["plan"])
    assert outcome(plan) == "paused/error"
    assert plan.steps.get(phase="run").error["message"] == "1 of 3 sub-plans failed."
    assert ExecutionPlan.objects.filter(label="update web-2").get().state == "paused"

    # when it is up again
    down.clear()
    found.follow()
    engine.run(plan)
    assert outcome(plan) == "stopped/success"
    assert sorted(updated) == ["web-1", "web-2", "web-3"]
    assert plan.actions.get().output["failed"] == []


def test_without_the_rest_the_parent_goes_on_when_it_is_skipped(page: Open, engine: Engine) -> None:
    found = page("make-sub-plans", whole=False, update=lambda host: 1 / 0)
    found.follow()
    plan = engine.run(trigger(found["UpdateHosts"], hosts=["web-1"]))
    control.skip(plan.steps.get(phase="run"))
    control.resume(plan)
    engine.run(plan)
    assert outcome(plan) == "stopped/warning"
