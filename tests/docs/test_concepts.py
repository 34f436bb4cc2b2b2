"""What the how-tos promise about progress, hooks, middleware and atomic steps: the examples run on the real engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.models import Group
from django.db.models import F

from dynflow_app import BaseAction, Retry, control
from dynflow_app.actions.middleware import Middleware, Remove, Use, presented
from dynflow_app.exceptions import PlanningError
from dynflow_app.models import ExecutionPlan
from dynflow_app.reading.progress import eta
from dynflow_app.triggering import trigger
from tests.docs.following import FollowedPage
from tests.engine import Engine, outcome

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper

pytestmark = pytest.mark.django_db(transaction=True)
Open = Callable[..., FollowedPage]


# --- show progress and time left -----------------------------------------------------------------------------------


def test_three_quarters_of_the_heaviest_step_are_six_tenths_of_the_plan(page: Open, engine: Engine) -> None:
    found = page("show-progress")
    found.follow()
    found["plan"] = plan = engine.run(trigger(found["MoveHost"]))
    found.follow()
    for _ in range(6):
        control.send_event(plan.steps.get(number=1), "copied")
        engine.run(plan)
        assert found["progress_of"]([plan])[plan.pk] == 1
        ExecutionPlan.objects.filter(pk=plan.pk).update(ended_at=F("started_at") + timedelta(seconds=100))
        plan = engine.run(trigger(found["MoveHost"]))
    assert eta(plan, 0.6) == timedelta(seconds=40)
    assert eta(plan, 0.05) is None
    assert eta(plan, 0.58) == timedelta(seconds=45), "rounded up"


# --- use hooks -----------------------------------------------------------------------------------------------------


def test_people_are_told_what_became_of_a_plan(page: Open, engine: Engine) -> None:
    told: list[tuple[str, str]] = []
    errors: list[Exception] = [RuntimeError("no space")]

    def roll_out(version: str) -> None:
        if version == "2" and errors:
            raise errors[0]

    found = page("use-hooks", roll_out=roll_out, tell=lambda *words: told.append(words))
    found.follow()
    engine.run(trigger(found["Deploy"], version="1"))
    assert told == [("#deploys", "1 is live")]
    plan = engine.run(trigger(found["Deploy"], version="2"))
    control.resume(plan)
    engine.run(plan)
    assert told[1:] == [("#on-call", f"plan {plan.pk} needs you")] * 2, "each time"
    control.halt(plan)
    engine.run(plan)
    assert told[3:] == [("#deploys", "2 did not make it")]
    assert set(plan.steps.filter(phase="hook").values_list("state", flat=True)) == {"success"}


def test_hooks_come_one_after_the_other_and_none_changes_the_result(page: Open, engine: Engine) -> None:
    told: list[Any] = []
    found = page("use-hooks", roll_out=told.append, tell=lambda _, text: told.append(text))
    found.follow()

    class Quiet(found["Deploy"]):
        on_success = None

        def on_stopped(self) -> None:
            told.append("stopped")

    class Broken(BaseAction):
        def plan(self) -> None:
            self.plan_self()
            self.plan_action(found["Deploy"], version="1")
            self.plan_action(Quiet, version="2")

        def on_success(self) -> None:
            raise RuntimeError("nobody listens")

    plan = engine.run(trigger(Broken))
    assert outcome(plan) == "stopped/success"
    assert (set(told[:2]), told[2:]) == ({"1", "2"}, ["1 is live", "stopped"])
    hooks = plan.steps.get(phase="hook")
    assert (hooks.state, "Broken.on_success(): RuntimeError: nobody listens" in str(hooks.error)) == ("error", True)


# --- wrap actions --------------------------------------------------------------------------------------------------

USER: ContextVar[str] = ContextVar("USER", default="nobody")
order: list[str] = []


@contextmanager
def acting_as(user: str) -> Iterator[None]:
    token = USER.set(user)
    try:
        yield
    finally:
        USER.reset(token)


class Outer(Middleware):
    """Says when it is entered."""

    @contextmanager
    def run(self, action: BaseAction) -> Iterator[None]:
        order.append(type(self).__name__)
        yield

    def present(self, action_name: str, data: dict[str, Any]) -> dict[str, Any]:
        return {**data, "shown": True}


class Inner(Outer):
    """Says so, too."""


class Swallowing(Outer):
    """Lets nothing fail."""

    @contextmanager
    def run(self, action: BaseAction) -> Iterator[None]:
        order.append("Swallowing")
        with suppress(ValueError):
            yield


@pytest.fixture
def report(page: Open, settings: SettingsWrapper) -> FollowedPage:
    """The page, with a middleware for all actions."""
    settings.DYNFLOW = {**settings.DYNFLOW, "MIDDLEWARE": (f"{__name__}.Outer",)}
    order.clear()
    found = page("wrap-actions", current_user=USER.get, acting_as=acting_as)
    found.follow()
    return found


def test_a_step_acts_for_the_user_who_made_its_plan(report: FollowedPage, engine: Engine) -> None:
    with acting_as("ada"):
        plan = trigger(report["CreateReport"])
    engine.run(plan)
    assert plan.actions.get().input == {"acting_user": "ada"}
    assert plan.actions.get().output == {"author": "ada"}
    assert order == ["Outer"]
    assert presented(plan.action, {}) == {"shown": True}


def test_the_setting_is_outermost_and_subclasses_are_inside_unless_they_say_otherwise(
    report: FollowedPage, engine: Engine
) -> None:
    class Based(report["CreateReport"]):
        middleware = (Inner,)

    class Moved(BaseAction):
        middleware = (Swallowing, Use(Inner, before=Outer))

        def run(self) -> None:
            raise ValueError

    class Removed(Based):
        middleware = (Remove(Outer), Use(Swallowing, replace=Inner))

    class Contradicting(BaseAction):
        middleware = (Use(Inner, before=Outer, after=Outer),)

    seen = []
    for kind in (Based, Moved, Removed):
        order.clear()
        assert outcome(engine.run(trigger(kind))) == "stopped/success", "a swallowed exception is none"
        seen.append(list(order))
    assert seen == [["Outer", "Inner"], ["Inner", "Outer", "Swallowing"], ["Swallowing"]]
    with pytest.raises(PlanningError, match=r"Inner and Outer|Outer and Inner"):
        trigger(Contradicting)


# --- write atomic steps --------------------------------------------------------------------------------------------


def test_the_row_exists_if_and_only_if_the_step_succeeded(page: Open, engine: Engine) -> None:
    found = page("write-atomic-steps")
    found.follow()
    plan = engine.run(trigger(found["CreateTeam"], name="staff"))
    assert plan.actions.get().output == {"team": Group.objects.get(name="staff").pk}
    failures = [ValueError("too early"), {1, 2}]

    class Clumsy(found["CreateTeam"]):
        retry = Retry(attempts=2)

        def run(self) -> None:
            super().run()
            if isinstance(failures[0], Exception):
                raise failures.pop(0)
            self.output["team"] = failures.pop(0)  # cannot be stored

    plan = engine.run(trigger(Clumsy, name="guests"))
    assert (len(failures), Group.objects.filter(name="guests").exists()) == (1, False)
    engine.pass_time(1)
    engine.run(plan)
    assert (plan.state, Group.objects.filter(name="guests").exists()) == ("paused", False)
    assert plan.steps.get().is_idempotent
