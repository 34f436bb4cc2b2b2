"""Clean-up takes whole families of stopped plans that are old enough, and nothing else."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from django.db import connection, transaction

from dynflow_app import BaseAction, Cron, clock
from dynflow_app.actions import registry
from dynflow_app.models import (
    ExecutionPlan,
    Prerequisite,
    ResourceLock,
    Step,
    Ticket,
)
from dynflow_app.retention import Selection, clean_up
from dynflow_app.retention.action import Cleanup, nightly
from dynflow_app.retention.selection import rules
from dynflow_app.states import PlanState
from tests.factories import (
    PlanFactory,
    StepFactory,
    add_steps,
)
from tests.testapp.models import Bill, Note, Server

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper

from tests.integration.old_plans import FAN, MONTH, clean, left, old_plan, sub_plan

pytestmark = pytest.mark.django_db
# --- which plans ----------------------------------------------------------------------------------------------------


def test_only_plans_that_stopped_long_enough_ago_go() -> None:
    # given old plans in every state, and one that stopped yesterday
    old = clock.now() - timedelta(days=99)
    live = {PlanFactory(state=state, created_at=old) for state in PlanState if state != PlanState.STOPPED}
    recent = old_plan(days=1)
    for result in ("success", "warning", "error", "cancelled"):
        old_plan(result=result)

    # when it is cleaned up
    cleaned = clean()

    # then the old ones that had stopped are gone
    assert cleaned == {"plans": 4}
    assert left() == live | {recent}


def test_by_default_everything_is_kept() -> None:
    plan = old_plan(days=9999)

    assert clean(Selection()) == {}
    assert left() == {plan}


@pytest.fixture
def known_actions(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(registry, "_classes", dict(registry._classes))
    return None


def test_actions_say_how_long_their_plans_are_kept(settings: SettingsWrapper, known_actions: None) -> None:
    # given a setting, and actions that say something else
    settings.DYNFLOW = {**settings.DYNFLOW, "KEEP_FOR": 30}

    class Daily(BaseAction):
        keep_for = timedelta(days=2)

    class Precious(BaseAction):
        keep_for = timedelta.max

    daily, precious = registry.action_name(Daily), registry.action_name(Precious)
    kept = {old_plan(1, action=daily), old_plan(9999, action=precious), old_plan(29), old_plan(29, action="gone.Away")}
    for days, action in ((3, daily), (31, FAN), (31, "gone.Away")):
        old_plan(days, action=action)

    # when it is cleaned up, then each went by its own age; those of classes that are gone, by the setting
    assert clean(Selection()) == {"plans": 3}
    assert left() == kept

    # and an age that is asked for replaces the setting, but what an action says only if it is named
    assert clean(Selection(older_than=timedelta())) == {"plans": 2}
    assert clean(Selection(older_than=timedelta(), actions=(daily,))) == {"plans": 1}
    assert {plan.action for plan in left()} == {precious}


def test_who_says_how_long_plans_are_kept_has_them_cleaned_up_each_night(settings: SettingsWrapper) -> None:
    assert nightly() is None
    settings.DYNFLOW = {**settings.DYNFLOW, "KEEP_FOR": 30}
    assert nightly() == Cron("17 3 * * *", tz="UTC", purpose="clean-up")


def test_a_number_of_days_without_a_date_is_for_ever(settings: SettingsWrapper) -> None:
    settings.DYNFLOW = {**settings.DYNFLOW, "KEEP_FOR": 1e9}
    assert [rule.actions for rule in rules(Selection())] == [(registry.action_name(Cleanup),)]


@pytest.mark.parametrize("wrong", [5, timedelta(days=-1), "30d"])
def test_a_wrong_keep_for_is_told_when_the_class_is_defined(wrong: object) -> None:
    with pytest.raises(ValueError, match=r"Wrong\.keep_for"):
        type("Wrong", (BaseAction,), {"keep_for": wrong})


def test_plans_can_be_chosen_by_action_and_result() -> None:
    for action in ("a.A", "b.B"):
        for result in ("success", "error"):
            old_plan(action=action, result=result)

    assert clean(Selection(older_than=timedelta(1), actions=("a.A",), results=("error",))) == {"plans": 1}
    assert clean(Selection(older_than=timedelta(1), results=("success",))) == {"plans": 2}
    assert [(plan.action, plan.result) for plan in left()] == [("b.B", "error")]


def test_the_oldest_go_first_up_to_a_limit() -> None:
    plans = [old_plan(days=days) for days in (31, 35, 33, 37)]

    assert clean(limit=3, batch=2) == {"plans": 3}
    assert left() == {plans[0]}


def test_a_dry_run_counts_the_same_and_changes_nothing() -> None:
    # given plans of which some have to stay
    for _ in range(5):
        sub_plan(old_plan())
    waited_for = old_plan()
    Prerequisite.objects.create(plan=PlanFactory(), after=waited_for, accepts=[])
    before = left()

    # when it is only counted, then nothing is gone, and it was right
    counted = clean(dry_run=True, batch=2)
    assert left() == before
    assert counted == clean(batch=2) == {"plans": 5, "sub_plans": 5}


# --- families -------------------------------------------------------------------------------------------------------


def test_sub_plans_go_with_their_parents_and_never_alone() -> None:
    # given a young parent with an old child, and an old parent with a young child that has a child
    young = old_plan(days=1)
    spared = {young, sub_plan(young, days=99)}
    old = old_plan()
    grandchild = sub_plan(sub_plan(old, days=1), days=1)

    # when it is cleaned up, then families went or stayed as a whole, by the age of their roots
    assert clean() == {"plans": 1, "sub_plans": 2}
    assert left() == spared
    assert not Step.objects.filter(plan=grandchild).exists()


@pytest.mark.parametrize("batch", [1, 2, 500])
def test_a_family_with_a_live_plan_stays(batch: int) -> None:
    parent = old_plan()
    sub_plan(parent)
    child = sub_plan(parent)
    step = StepFactory(plan=child, state="success")
    PlanFactory(state="paused", parent_step=step, position=0, created_at=clock.now() - timedelta(days=90))
    other = old_plan(days=50)
    before = left()

    assert clean(batch=batch) == {"plans": 1}
    assert left() == before - {other}


def test_a_family_too_large_for_one_transaction_goes_from_its_leaves() -> None:
    """So an interruption leaves parents without some of their sub-plans, but never a sub-plan without its parent."""
    # given a parent with 7 children, one of which has 5 of its own; and others
    parent = old_plan(days=50)
    children = [sub_plan(parent) for _ in range(7)]
    for _ in range(5):
        sub_plan(children[3])
    old_plan()

    # when it is cleaned up in small batches, then all goes, and after each batch every sub-plan has its parents
    total: Counter[str] = Counter()
    for cleaned in clean_up(MONTH, batch=3):
        total.update(plans=cleaned.plans.total(), sub_plans=cleaned.sub_plans)
        assert cleaned.plans.total() + cleaned.sub_plans <= 3
        assert ExecutionPlan.objects.filter(pk=parent.pk).exists() or not left() & set(children)
    assert total == {"plans": 2, "sub_plans": 12}
    assert left() == set()


def test_many_steps_make_smaller_batches() -> None:
    for _ in range(3):
        add_steps(old_plan(), 15)
    parent = old_plan()
    for _ in range(2):
        add_steps(sub_plan(parent), 25)

    batches = [cleaned.plans.total() + cleaned.sub_plans for cleaned in clean_up(MONTH, batch=3)]

    assert batches == [1, 1, 1, 1, 2], "the last sub-plan and its parent are not too much together"
    assert left() == set()


# --- what has to stay -----------------------------------------------------------------------------------------------


def test_what_a_live_plan_waits_for_stays() -> None:
    # given plans that a live plan, and a stopped one, wait for
    waited_for, no_longer = old_plan(), old_plan()
    live, stopped = PlanFactory(state="scheduled"), old_plan(days=1)
    Prerequisite.objects.create(plan=live, after=waited_for, accepts=["success"])
    past = Prerequisite.objects.create(plan=stopped, after=no_longer, accepts=["success"])

    # when it is cleaned up
    assert clean() == {"plans": 1}

    # then only the one that nothing waits for is gone
    assert left() == {waited_for, live, stopped}
    past.refresh_from_db()
    assert past.after is None


def test_a_plan_with_hooks_to_call_stays() -> None:
    plan = old_plan()
    hook = StepFactory(plan=plan, phase="hook", state="ready")

    assert clean() == {}
    Step.objects.filter(pk=hook.pk).update(state="success", ended_at=clock.now(), attempt=1)
    Ticket.objects.all().delete()
    assert clean() == {"plans": 1}


def test_a_plan_with_locks_to_unlock_stays() -> None:
    held = ResourceLock.objects.create(plan=old_plan(), resource="text:rack", state="held", place=1)

    assert clean() == {}
    ResourceLock.objects.filter(pk=held.pk).update(state="unlocked", place=None)
    assert clean() == {"plans": 1}


def test_foreign_keys_of_the_project_are_respected() -> None:
    # given rows of the project that refer to plans, in three ways
    plans = [old_plan() for _ in range(3)]
    bill = Bill.objects.create(plan=plans[0])
    Note.objects.create(step=StepFactory(plan=plans[1], state="success"))
    server = Server.objects.create(installed_by=plans[2])

    # when it is cleaned up, then the protected plan stays, and the other rows are treated as they say
    assert clean() == {"plans": 2}
    assert left() == {plans[0]}
    assert not Note.objects.exists()
    server.refresh_from_db()
    assert server.installed_by is None
    bill.delete()
    assert clean() == {"plans": 1}


@pytest.mark.django_db(transaction=True)
@pytest.mark.servers
def test_what_others_have_locked_is_left_for_the_next_time() -> None:
    # given a verb that is being applied to a child of an old plan, in another session
    parent = old_plan()
    child = sub_plan(parent)
    other = old_plan()
    locked, done = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic():
            list(ExecutionPlan.objects.filter(pk=child.pk).lock())
            locked.set()
            done.wait(10)
        connection.close()

    thread = threading.Thread(target=hold)
    thread.start()
    locked.wait(10)

    # when it is cleaned up, then it neither waits nor tears the family apart
    try:
        assert clean() == {"plans": 1}
        assert left() == {parent, child}
    finally:
        done.set()
        thread.join()
    assert clean() == {"plans": 1, "sub_plans": 1}
    assert other not in left()
