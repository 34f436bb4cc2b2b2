"""Why a plan does not move: the true reason comes first, and nothing is said of a plan that simply goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.db.models import F, OuterRef, Subquery

from dynflow_app.models import Envelope, ExecutionPlan, Limit, Step, Ticket, World, WorldKind
from dynflow_app.reading.explaining import FindingCode, explain
from tests.factories import FAILURE, AttemptFactory, PlanFactory, StepFactory, WorldFactory, add_steps
from tests.integration.explained import ago, codes, only, running

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper

pytestmark = [pytest.mark.django_db, pytest.mark.invented]
MISSING = {"class": "UnknownActionError", "message": "This process knows no action 'a.B'.", "backtrace": ""}


@pytest.fixture
def in_process(settings: SettingsWrapper) -> None:
    """No Redis; an executor serves every queue."""
    settings.DYNFLOW = {**settings.DYNFLOW, "EXECUTOR": "in-process"}
    WorldFactory(kind=WorldKind.EXECUTOR, queues=[])


# --- nothing to explain --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["stopped", "running"])
def test_a_plan_that_has_stopped_or_simply_goes_on_needs_no_explanation(in_process: None, state: str) -> None:
    plan = PlanFactory(state=state)
    add_steps(plan, 3, "success")
    if state == "running":
        StepFactory(plan=plan, number=4, state="running")
        StepFactory(plan=plan, number=5, state="ready")
        StepFactory(plan=plan, number=6, state="suspended", alarm="wake", alarm_at=ago(seconds=-5))

    assert explain(plan) == []


def test_a_step_that_waits_for_a_moment_needs_no_explanation(in_process: None) -> None:
    plan = running()
    StepFactory(plan=plan, state="ready", ready_at=ago(seconds=2))

    assert explain(plan) == []


def test_a_plan_that_is_gone_needs_no_explanation(in_process: None) -> None:
    plan = running()
    ExecutionPlan.objects.all().delete()

    assert explain(plan) == []


# --- limits --------------------------------------------------------------------------------------------------------


def test_a_step_throttled_by_its_limit_tells_who_occupies_it(in_process: None) -> None:
    # given a limit of two that two steps of another plan occupy, one as suspended
    Limit.objects.create(key="cloud eu", most=2, starts=5, period=60, next_start_at=ago(seconds=-30.4))
    other = running()
    for number, state in enumerate(("running", "suspended"), 1):
        StepFactory(plan=other, number=number, state=state, limit_key="cloud eu")
    plan = running()
    for number in (3, 4):
        StepFactory(plan=plan, action__number=number, state="ready", is_throttled=True, limit_key="cloud eu")

    # then
    finding = only(plan)
    assert finding.code == FindingCode.THROTTLED
    assert "Step 3" in finding.message
    assert "limit 'cloud eu': 2 of 2 steps occupy it, and at most 5 may start in 60 s" in finding.message
    assert "the next one in 30 s; 1 more" in finding.message


def test_a_limit_is_no_reason_while_other_steps_of_the_plan_run(in_process: None) -> None:
    plan = running()
    StepFactory(plan=plan, state="running", limit_key="x")
    StepFactory(plan=plan, state="ready", is_throttled=True, limit_key="x")

    assert explain(plan) == []


# --- steps that run or are suspended -------------------------------------------------------------------------------


@pytest.mark.parametrize("request_", ["cancel", "abort"])
def test_a_running_step_that_was_told_to_end(in_process: None, request_: str) -> None:
    plan = running()
    StepFactory(plan=plan, state="running", stop_request=request_)

    finding = only(plan)
    assert finding.code == FindingCode.STOPPING
    assert f"was told to {request_}" in finding.message
    assert "worker.example.com" in finding.message


@pytest.mark.parametrize(
    ("fields", "code", "text"),
    [
        (
            {"alarm": "retry", "failures": 2, "error": FAILURE},
            FindingCode.RETRY_WAITS,
            "is tried again in 4 min: 2 tries failed, the last with Unreachable: host h1 did not answer",
        ),
        ({"alarm": "parked", "error": MISSING}, FindingCode.CLASS_MISSING, "knows no action 'a.B'); tried again in"),
        ({"alarm": "wake"}, FindingCode.TIMER_WAITS, "is called again in 4 min"),
        ({"alarm": "event"}, FindingCode.TIMER_WAITS, "gets an event that was sent with a delay in 4 min"),
        ({"alarm": "timeout"}, FindingCode.EVENT_WAITS, "waits for an event; its time is over in 4 min"),
        ({"alarm": "", "alarm_at": None}, FindingCode.EVENT_WAITS, "waits for an event, without a time limit"),
    ],
)
def test_what_a_suspended_step_waits_for(
    in_process: None, fields: dict[str, Any], code: FindingCode, text: str
) -> None:
    # given a step that is suspended since its last attempt ended
    plan = running()
    step = StepFactory(plan=plan, **{"state": "suspended", "alarm_at": ago(seconds=-240.9), **fields})
    attempt = AttemptFactory(step=step, ended_as="suspended")

    # then
    finding = only(plan)
    assert finding.code == code
    assert text in finding.message
    assert finding.step_number == step.number
    assert finding.since == attempt.ended_at
    assert finding.remedy


def test_a_timer_that_is_overdue_says_so(in_process: None) -> None:
    plan = running()
    StepFactory(plan=plan, state="suspended", alarm="wake", alarm_at=ago(minutes=5))

    assert "it was due 5 min ago" in only(plan).message


def test_a_missing_class_matters_even_while_other_steps_run(in_process: None) -> None:
    plan = running()
    StepFactory(plan=plan, state="running")
    StepFactory(
        plan=plan, state="suspended", alarm="parked", alarm_at=ago(seconds=-9), error=MISSING, action__name="a.B"
    )

    finding = only(plan)
    assert finding.code == FindingCode.CLASS_MISSING
    assert "Deploy a.B" in finding.remedy


def test_a_step_that_is_being_skipped(in_process: None) -> None:
    plan = PlanFactory(state="paused")
    StepFactory(plan=plan, state="skipping", rescue="skip")

    assert only(plan).code == FindingCode.SKIPPING


# --- paused, not started -------------------------------------------------------------------------------------------


def test_a_paused_plan_names_its_errors_and_what_was_decided(in_process: None) -> None:
    # given more failed steps than anybody reads, and no process alive
    World.objects.all().delete()
    plan = PlanFactory(state="paused")
    add_steps(plan, 5, "error")
    Step.objects.update(rescue="pause")

    # then the pause is the reason, not the processes
    found = explain(plan)
    assert {finding.code for finding in found} == {FindingCode.STEP_FAILED}
    assert [finding.step_number for finding in found] == [1, 2, 3]
    assert (
        "failed with Unreachable: host h1 did not answer; its rescue strategy is pause (2 more failed)"
        in found[0].message
    )
    assert "control.resume" in found[0].remedy
    assert "control.skip" in found[0].remedy


def test_a_plan_that_could_not_be_orchestrated(in_process: None) -> None:
    plan = PlanFactory(state="paused", error={"class": "KeyError", "message": "'gate'", "backtrace": "secret"})

    finding = only(plan)
    assert finding.code == FindingCode.ORCHESTRATION_FAILED
    assert "KeyError: 'gate'" in finding.message


def test_a_paused_plan_without_errors_only_has_to_be_resumed(in_process: None) -> None:
    plan = PlanFactory(state="paused")
    add_steps(plan, 1, "skipped")

    assert only(plan).code == FindingCode.PAUSED


def test_a_plan_that_starts_later_waits_for_nothing_else() -> None:
    plan = PlanFactory(state="planned", start_at=ago(hours=-3.2))
    Envelope.objects.create(kind="planned", plan=plan, due_at=plan.start_at)

    finding = only(plan)
    assert finding.code == FindingCode.STARTS_LATER
    assert "in 3 h" in finding.message


def test_a_frozen_plan_does_not_start() -> None:
    assert codes(PlanFactory(state="planned", is_frozen=True)) == [FindingCode.FROZEN]


def test_hooks_are_neither_progress_nor_failures_of_the_plan(in_process: None) -> None:
    # given a paused plan with a failed hook, and a suspended one beside which a hook runs
    paused, waiting = PlanFactory(state="paused"), running()
    StepFactory(plan=paused, state="error", phase="hook")
    StepFactory(plan=waiting, state="suspended", alarm="")
    StepFactory(plan=waiting, state="running", phase="hook")

    # then
    assert codes(paused) == [FindingCode.PAUSED]
    assert codes(waiting) == [FindingCode.EVENT_WAITS]


def test_payloads_are_never_shown(in_process: None) -> None:
    plan = PlanFactory(state="paused")
    StepFactory(plan=plan, state="error", action__input={"host": "hidden-in"}, action__output={"x": "hidden-out"})

    assert "hidden" not in str(explain(plan))


# --- cost ----------------------------------------------------------------------------------------------------------


def test_many_steps_cost_no_more_queries(in_process: None, django_assert_max_num_queries: Any) -> None:
    # given a plan with thousands of steps in every state that needs a question of its own
    plan = running()
    first = 1
    for state in ("ready", "ready", "suspended", "error", "pending", "skipping"):
        add_steps(plan, 1700, state, first=first)
        first += 1700
    Step.objects.filter(number__lte=1700).update(limit_key=F("number"))
    limit = Step.objects.filter(pk=OuterRef("step")).values("limit_key")
    Ticket.objects.filter(step__number__lte=1700).update(throttled_by=Subquery(limit))
    Step.objects.filter(state="suspended").update(alarm="wake", alarm_at=ago(seconds=-60))
    World.objects.update(heartbeat_at=ago())  # storing them takes longer than a process may be silent

    # then
    with django_assert_max_num_queries(9):
        found = codes(plan)
    assert set(found) == {
        FindingCode.QUEUE_BACKED_UP,
        FindingCode.THROTTLED,
        FindingCode.TIMER_WAITS,
        FindingCode.SKIPPING,
    }
