"""The check W010: plans in flight that the code at hand cannot run. It never stands in the way."""

from __future__ import annotations

import pytest
from django.core.checks import CheckMessage, run_checks
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from dynflow_app.actions import registry
from dynflow_app.checks import check_plans_in_flight
from dynflow_app.models import Step
from tests.factories import PlanFactory, StepFactory

KNOWN = "project.bench.actions.NoOp"


def found() -> list[CheckMessage]:
    """What a plain ``manage.py check`` says of this."""
    return [message for message in run_checks() if message.id == "dynflow_app.W010"]


@pytest.mark.django_db
def test_a_class_that_is_gone_is_named_with_its_plans() -> None:
    # given five plans in flight with such an action, twice in one of them, and one that has stopped
    plans = [PlanFactory(state=state) for state in ("planned", "running", "paused", "paused", "running")]
    for plan in [*plans, plans[0], PlanFactory(state="stopped")]:
        StepFactory(plan=plan, state="pending", action__name="gone.actions.Forgotten")

    # then
    (warning,) = found()
    assert warning.msg == "5 plans in flight cannot run gone.actions.Forgotten: this code does not have it."
    ids = sorted(str(plan.pk) for plan in plans)
    assert warning.hint is not None
    assert all(shown in warning.hint for shown in ids[:3])
    assert not any(hidden in warning.hint for hidden in ids[3:])


@pytest.mark.django_db
def test_a_phase_that_is_gone_matters_while_steps_need_it() -> None:
    # given a class without finalize, whose finalize steps wait in one plan and have ended in another
    assert not registry.find(KNOWN).has_phase("finalize")
    plan = PlanFactory(state="running")
    step = StepFactory(plan=plan, state="pending", phase="finalize", action__name=KNOWN)
    StepFactory(plan=PlanFactory(state="paused"), state="skipped", phase="finalize", action__name=KNOWN)

    # then the first is named
    (warning,) = found()
    assert warning.msg.startswith(f"1 plan in flight cannot run {KNOWN}: it has no finalize() any more")
    assert str(plan.pk) in str(warning.hint)

    # when that is skipped, too
    Step.objects.filter(pk=step.pk).update(state="skipped")

    # then
    assert found() == []


@pytest.mark.django_db
def test_what_this_code_can_run_is_not_mentioned() -> None:
    StepFactory(plan=PlanFactory(state="running"), state="ready", action__name=KNOWN)

    with CaptureQueriesContext(connection) as captured:
        assert check_plans_in_flight(None) == []
    assert len(captured) == 4  # two questions, behind a savepoint


@pytest.mark.django_db
def test_thin_settings_that_know_no_action_at_all_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    StepFactory(plan=PlanFactory(state="running"), state="ready")
    monkeypatch.setattr(registry, "_classes", {})

    assert check_plans_in_flight(None) == []


@pytest.mark.django_db
@pytest.mark.invented
def test_without_tables_it_is_silent_and_breaks_no_transaction() -> None:
    # given a database before its migrations, in the middle of a transaction
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE dynflow_app_step RENAME TO dynflow_app_step_not_yet")

        # then
        assert check_plans_in_flight(None) == []
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            assert cursor.fetchone() == (1,)
        transaction.set_rollback(True)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("was_open", [True, False])
def test_it_leaves_the_connection_as_it_was(was_open: bool) -> None:
    StepFactory(plan=PlanFactory(state="running"), state="ready", action__name="gone.actions.Forgotten")
    if not was_open:
        connection.close()

    assert len(check_plans_in_flight(None)) == 1
    assert (connection.connection is not None) == was_open


def test_without_a_database_it_is_silent() -> None:
    assert check_plans_in_flight(None) == []  # the tests' own guard refuses every connection
