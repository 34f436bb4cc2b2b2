"""How clean-up works: nothing is left behind, few statements, and it ends when it is told to."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection
from django.db.models import CASCADE
from django.test.utils import CaptureQueriesContext

from dynflow_app import clock, control
from dynflow_app.actions import registry
from dynflow_app.ledger import limits
from dynflow_app.models import (
    Action,
    Attempt,
    Dependency,
    Event,
    ExecutionPlan,
    Gate,
    HistoryEntry,
    Limit,
    OutputChunk,
    Prerequisite,
    Step,
    SubPlans,
)
from dynflow_app.retention import Archive, Selection
from dynflow_app.retention.action import Cleanup
from dynflow_app.retention.tables import OWNED, references
from dynflow_app.triggering import trigger
from dynflow_app.worker import stop_requests
from tests.engine import Engine, outcome
from tests.factories import (
    ChunkFactory,
    PlanFactory,
    StepFactory,
    add_steps,
)
from tests.integration.old_plans import clean, left, old_plan, records, sub_plan
from tests.support import wait_until
from tests.testapp import many
from tests.testapp.journal import Journal
from tests.testapp.undo import RowsOfDeeds

pytestmark = pytest.mark.django_db


@pytest.fixture
def known_actions(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(registry, "_classes", dict(registry._classes))
    return None


@pytest.mark.django_db(transaction=True)
def test_nothing_of_a_plan_is_left(engine: Engine, journal: Journal) -> None:
    # given a plan that lived, and another that was made from it; a step of each needed a second attempt
    plan = trigger(RowsOfDeeds, width=3)
    run_at_the_second_attempt(plan, "run lower-1", engine, journal)
    again = control.revert(plan, by="ada")
    run_at_the_second_attempt(again, "revert lower-1", engine, journal)
    step = plan.steps.first()
    Event.objects.create(step=step, name="late", state="dropped")
    SubPlans.objects.create(step=step, total=0)
    ChunkFactory(action=plan.actions.first())
    Prerequisite.objects.create(plan=plan, after=again, accepts=[])
    for model in (Action, Attempt, Dependency, Event, Gate, HistoryEntry, OutputChunk, Prerequisite, Step, SubPlans):
        assert model._default_manager.exists(), model
    ExecutionPlan.objects.filter(pk=plan.pk).update(ended_at=clock.now() - timedelta(days=31))

    # when the first is cleaned up, then the second is whole, and no longer says what it was made from
    assert clean() == {"plans": 1}
    again.refresh_from_db()
    assert (again.made_from, again.made_as, outcome(again)) == (None, "revert", "stopped/success")
    assert again.steps.count() == Step.objects.count() == 6
    assert Attempt.objects.filter(step__plan=again).count() == Attempt.objects.count() == 2

    # when the second is, then nothing is left at all
    clean(Selection(older_than=timedelta()))
    assert [model for model in OWNED if model._default_manager.exists()] == []


def run_at_the_second_attempt(plan: ExecutionPlan, deed: str, engine: Engine, journal: Journal) -> None:
    """One that is broken at first."""
    journal.break_(deed)
    engine.run(plan)
    assert outcome(plan) == "paused/error"
    journal.repair(deed)
    control.resume(plan)
    engine.run(plan)
    assert outcome(plan) == "stopped/success"


def test_every_table_of_the_ledger_whose_rows_go_with_a_plan_is_known() -> None:
    """Otherwise Django would load them, to look for what refers to them."""
    unknown = {each.model for each in references() if each.on_delete is CASCADE}
    assert {model for model in unknown if model._meta.app_label == "dynflow_app"} == set()


def test_the_number_of_statements_does_not_grow_with_the_plans(tmp_path: Path) -> None:
    def statements(number: int) -> int:
        for _ in range(number):
            add_steps(sub_plan(old_plan()), 3)
        with CaptureQueriesContext(connection) as captured, Archive(tmp_path / f"{number}.jsonl") as archive:
            assert clean(archive=archive) == {"plans": number, "sub_plans": number}
        return len(captured)

    statements(1)  # whatever is cached
    assert statements(2) == statements(40)


def test_foreign_keys_have_indexes_so_that_deleting_is_cheap() -> None:
    """PostgreSQL looks for referring rows of each row that goes; without an index it reads the whole table."""
    if connection.vendor != "postgresql":
        pytest.skip("SQLite explains no such look-ups")
    lacking = []
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        for model in OWNED:
            for relation in model._meta.related_objects:
                field = relation.field
                if field.model._meta.app_label != "dynflow_app":
                    continue
                table, column = field.model._meta.db_table, field.column
                cursor.execute(
                    f"PREPARE look AS SELECT 1 FROM ONLY {table} x "  # noqa: S608 - names are ours
                    f"WHERE $1 OPERATOR(pg_catalog.=) {column} FOR KEY SHARE OF x"
                )
                cursor.execute("SET LOCAL plan_cache_mode = force_generic_plan")
                value = "gen_random_uuid()" if model is ExecutionPlan else "1"
                cursor.execute(f"EXPLAIN EXECUTE look({value})")
                if "Seq Scan" in str(cursor.fetchall()):
                    lacking.append((table, column))
                cursor.execute("DEALLOCATE look")
    assert lacking == []


@pytest.mark.django_db(transaction=True)
def test_an_idempotency_key_is_free_again(engine: Engine) -> None:
    old_plan(idempotency_key="monthly report")
    clean()
    assert not ExecutionPlan.objects.filter(idempotency_key="monthly report").exists()


@pytest.mark.parametrize("batch", [0, 10_001])
def test_a_batch_has_bounds(batch: int) -> None:
    with pytest.raises(ValueError, match="from 1 to 10,000"):
        clean(batch=batch)


# --- limits ---------------------------------------------------------------------------------------------------------


def test_limits_that_nothing_uses_go() -> None:
    # given limits: used long ago, by a live plan, and lately
    past = clock.now() - timedelta(days=31)
    for key in ("unused", "live"):
        Limit.objects.create(key=key, most=1, declared_at=past)
    Limit.objects.create(key="lately", most=1)
    StepFactory(plan=PlanFactory(state="paused"), limit_key="live")

    # when it is cleaned up, then the first is gone
    assert clean() == {"limits": 1}
    assert set(Limit.objects.values_list("key", flat=True)) == {"live", "lately"}


def test_a_limit_in_use_is_written_once_a_day_at_most() -> None:
    """A changed row is locked until the caller commits, so plans with the same limit would wait for each other."""
    limits.declare([("k", 3, None)])
    first = Limit.objects.get().declared_at
    limits.declare([("k", 3, None)])
    assert Limit.objects.get().declared_at == first

    Limit.objects.update(declared_at=first - timedelta(days=2))
    limits.declare([("k", 3, None)])
    assert Limit.objects.get().declared_at >= first


# --- the action -----------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_the_action_does_what_the_command_does(engine: Engine, tmp_path: Path) -> None:
    for _ in range(3):
        sub_plan(old_plan())
    path = tmp_path / "plans.jsonl.gz"

    plan = engine.run(trigger(Cleanup, older_than_days=30, archive=str(path), batch=2))

    assert outcome(plan) == "stopped/success"
    assert plan.actions.get().output == {"plans": 3, "sub_plans": 3, "limits": 0}
    assert left() == {plan}
    assert len(records(path)) == 6


@pytest.mark.django_db(transaction=True)
def test_the_action_ends_between_two_batches_when_it_is_cancelled(
    engine: Engine, known_actions: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given old plans, and somebody who cancels once the first batch is gone
    for _ in range(6):
        old_plan()
    monkeypatch.setattr(stop_requests, "LOOK_INTERVAL", 0.05)

    class CancelledCleanup(Cleanup):
        def check_cancelled(self) -> None:
            control.cancel(plan)
            wait_until(super().check_cancelled)  # raises as soon as the worker knows

    plan = trigger(CancelledCleanup, older_than_days=30, batch=2)

    # when it runs
    engine.run(plan)

    # then it was cancelled, and what was left is left
    assert outcome(plan) == "stopped/cancelled"
    assert ExecutionPlan.objects.exclude(pk=plan.pk).count() == 4


@pytest.mark.django_db(transaction=True)
def test_sub_plans_that_really_ran_go_with_their_parent(engine: Engine, journal: Journal) -> None:
    # given a parent that ran with twenty sub-plans, and a younger one
    parent = engine.run(trigger(many.Parent, names=[f"c{n}" for n in range(20)]))
    assert outcome(parent) == "stopped/success"
    ExecutionPlan.objects.update(ended_at=clock.now() - timedelta(days=31))
    young = engine.run(trigger(many.Parent, names=["d"]))

    # when it is cleaned up, in whatever batches
    assert clean(batch=6) == {"plans": 1, "sub_plans": 20}

    # then the younger family is whole
    assert left() == {young, young.steps.get(phase="run").children.get()}
    assert SubPlans.objects.get().step.plan == young
