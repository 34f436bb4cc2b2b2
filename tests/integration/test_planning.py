"""The plan phase belongs to the caller's transaction."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from django.contrib.auth.models import Group
from django.db import connections, transaction

from dynflow_app import transport, triggering
from dynflow_app.models import Envelope, ExecutionPlan, Step, Ticket
from tests.engine import Engine, outcome
from tests.testapp import actions
from tests.testapp.journal import Journal

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_failure_deep_in_planning_leaves_a_stopped_plan_and_nothing_else(engine: Engine, journal: Journal) -> None:
    """Scenario 7: a nested action raises in plan; later siblings get no steps, nothing runs."""
    # given an action whose second part cannot be planned
    # when it is triggered, the caller hears why
    with pytest.raises(LookupError, match="no such host"):
        triggering.trigger(actions.NestedFailure)

    # then the plan is there to look at, stopped, without steps, and what plan() wrote is gone
    plan = ExecutionPlan.objects.get()
    assert outcome(plan) == "stopped/error"
    assert plan.error["message"] == "no such host"
    assert "Misplanned" in plan.error["backtrace"] or "no such host" in plan.error["backtrace"]
    assert not Step.objects.exists()
    assert not Group.objects.exists()
    engine.run()
    assert journal.lines == []


def test_a_swallowed_failure_in_planning_is_still_a_failure(engine: Engine) -> None:
    """Scenario 7: half an action cannot be kept, even if the code above it looks away."""
    with pytest.raises(LookupError):
        triggering.trigger(actions.SwallowedFailure)

    assert outcome(ExecutionPlan.objects.get()) == "stopped/error"
    assert not Step.objects.exists()


def test_a_failed_plan_goes_with_the_transaction_that_made_it(engine: Engine) -> None:
    """Scenario 7: inside the caller's transaction the failed plan shares its fate, and leaves it usable."""
    # given a caller who catches the error and goes on
    with transaction.atomic():
        with pytest.raises(LookupError):
            triggering.trigger(actions.NestedFailure)
        Group.objects.create(name="written by the caller")

    # then its own work is there, and the failed plan beside it
    assert [group.name for group in Group.objects.all()] == ["written by the caller"]
    assert outcome(ExecutionPlan.objects.get()) == "stopped/error"


def test_a_trigger_that_is_rolled_back_never_was(engine: Engine, journal: Journal) -> None:
    """Scenario 49: no plan remains, and nothing runs."""
    # given a transaction that triggers and is rolled back
    with transaction.atomic():
        plan = triggering.trigger(actions.Record, name="x")
        assert ExecutionPlan.objects.filter(pk=plan.pk).exists()
        transaction.set_rollback(True)

    # when the engine looks for work
    engine.run()

    # then there never was any
    assert not ExecutionPlan.objects.exists()
    assert not Envelope.objects.exists()
    assert journal.lines == []


def test_a_trigger_is_known_before_the_commit_and_starts_after_it(engine: Engine, journal: Journal) -> None:
    """Scenario 49: the id is known at once; nobody else sees the plan, and no bell rings, before the commit."""
    bell = transport.get()

    # when a plan is triggered in a transaction
    with transaction.atomic():
        plan = triggering.trigger(actions.Record, name="x")
        assert plan.pk is not None
        assert ExecutionPlan.objects.filter(pk=plan.pk).exists()

        # then for everybody else it does not exist yet
        assert elsewhere(ExecutionPlan.objects.count) == 0
        assert elsewhere(Envelope.objects.count) == elsewhere(Ticket.objects.count) == 0
        assert not bell.wait_queues([plan.queue], timeout=0)
        assert not bell.wait_orchestrator(timeout=0)

    # and after the commit the bell of its queue has rung, and it runs; there is nothing to be decided
    assert bell.wait_queues([plan.queue], timeout=0)
    assert not bell.wait_orchestrator(timeout=0)
    engine.run(plan)
    assert journal.lines == ["run x"]
    assert outcome(plan) == "stopped/success"


def elsewhere(look: Callable[[], int]) -> int:
    """What another connection sees."""
    seen: list[int] = []

    def work() -> None:
        try:
            seen.append(look())
        finally:
            connections.close_all()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(timeout=10)
    return seen[0]
