"""Sub-plans survive whatever is killed: each is made once, counts are exact, and the limit holds."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from dynflow_app import control
from dynflow_app.models import ExecutionPlan, Step, SubPlans
from dynflow_app.triggering import TriggerOptions, trigger, trigger_many
from project.bench.figures import most_at_once
from tests.acceptance.test_crashes import FAST
from tests.support import Processes, wait_until
from tests.testapp.journal import Journal
from tests.testapp.many import Child, KillableParent, ParentOfWaiting

pytestmark = [pytest.mark.servers, pytest.mark.processes]

SETTINGS = json.dumps({**json.loads(FAST), "ACTIONS_MODULE": "many"})
NAMES = [f"c{number}" for number in range(60)]
LIMIT = 10


def assert_all_went_well(plan: ExecutionPlan, journal: Journal) -> None:
    row = SubPlans.objects.get(step__plan=plan)
    assert (row.total, row.made, row.success, row.ended) == (60, 60, 60, 60)
    positions = ExecutionPlan.objects.filter(parent_step__plan=plan).values_list("position", flat=True)
    assert sorted(positions) == list(range(60))
    times = ExecutionPlan.objects.filter(parent_step__plan=plan).values_list("started_at", "ended_at")
    assert most_at_once(times) <= LIMIT
    runs = Counter(line for line in journal.lines if line.startswith("run"))
    assert set(runs) == {f"run {name}" for name in NAMES}
    assert max(runs.values()) <= 2, "what was under way may run twice, for it says that it may"


@pytest.mark.parametrize(
    "probes",
    ["sub_plans_made=kill@1", "sub_plans_made=kill@3", "sub_plans_made=raise@2", "outcomes_written=kill@4",
     "outcomes_committed=kill@6", "finalize_returned=kill@5"],
)  # fmt: skip
def test_a_worker_that_breaks_makes_no_sub_plan_twice(processes: Processes, journal: Journal, probes: str) -> None:
    processes.manage("dynflow_orchestrator", DYNFLOW_SETTINGS=SETTINGS)
    processes.manage("rqworker", "default", DYNFLOW_SETTINGS=SETTINGS, DYNFLOW_PROBES=probes)
    plan = trigger(KillableParent, names=NAMES, limit=LIMIT)
    plan.wait(timeout=60)
    if plan.state == "paused":  # where the probe raises it is an error of the step, as any other
        assert "raise" in probes
        control.resume(plan)
        plan.wait(timeout=60)
    assert plan.result == "success"
    assert_all_went_well(plan, journal)


@pytest.mark.parametrize("probes", ["decision_committed=kill@3", "decision_made=kill@5", "envelopes_taken=stop@4"])
def test_an_orchestrator_that_breaks_loses_no_count(processes: Processes, journal: Journal, probes: str) -> None:
    # given an orchestrator that breaks, with a standby
    processes.manage("dynflow_orchestrator", DYNFLOW_SETTINGS=SETTINGS, DYNFLOW_PROBES=probes)
    processes.manage("rqworker", "default", DYNFLOW_SETTINGS=SETTINGS)
    plan = trigger(KillableParent, names=NAMES, limit=LIMIT)
    processes.manage("dynflow_orchestrator", DYNFLOW_SETTINGS=SETTINGS)

    # then
    assert plan.wait(timeout=60).result == "success"
    assert_all_went_well(plan, journal)


def test_a_thousand_waiting_sub_plans_are_cancelled_with_their_parent(processes: Processes, journal: Journal) -> None:
    # given a thousand sub-plans that wait
    processes.manage("dynflow_orchestrator", DYNFLOW_SETTINGS=SETTINGS)
    processes.manage("rqworker", "default", DYNFLOW_SETTINGS=SETTINGS)
    plan = trigger(ParentOfWaiting, names=[str(number) for number in range(1000)])
    children = ExecutionPlan.objects.filter(parent_step__plan=plan)
    wait_until(lambda: children.filter(steps__state="suspended").count() == 1000, timeout=60, describe="all wait")

    # when their parent is cancelled, then all end, and it ends after them
    control.cancel(plan)
    assert plan.wait(timeout=60).result == "cancelled"
    assert Counter(children.values_list("state", "result")) == {("stopped", "cancelled"): 1000}
    assert children.filter(ended_at__gt=plan.ended_at).count() == 0


@pytest.mark.parametrize("probes", ["envelopes_taken=kill@1", "envelopes_taken=kill@2"])
def test_an_orchestrator_that_dies_while_it_cancels_sub_plans_forgets_none(
    processes: Processes, journal: Journal, probes: str
) -> None:
    # given 600 sub-plans that wait, more than one transaction cancels
    first = processes.manage("dynflow_orchestrator", DYNFLOW_SETTINGS=SETTINGS)
    processes.manage("rqworker", "default", DYNFLOW_SETTINGS=SETTINGS)
    plan = trigger(ParentOfWaiting, names=[str(number) for number in range(600)])
    children = ExecutionPlan.objects.filter(parent_step__plan=plan)
    wait_until(lambda: children.filter(steps__state="suspended").count() == 600, timeout=60, describe="all wait")

    # when their parent is cancelled, and the orchestrator dies in the middle of that
    first.kill()
    processes.manage("dynflow_orchestrator", DYNFLOW_SETTINGS=SETTINGS, DYNFLOW_PROBES=probes)
    processes.manage("dynflow_orchestrator", DYNFLOW_SETTINGS=SETTINGS)
    control.cancel(plan)

    # then its standby ends the rest, each once
    assert plan.wait(timeout=60).result == "cancelled"
    assert Counter(children.values_list("state", "result")) == {("stopped", "cancelled"): 600}
    assert SubPlans.objects.get(step__plan=plan).cancelled == 600


@pytest.mark.parametrize("probes", ["steps_claimed=kill@1", "outcomes_written=kill@1", "outcomes_written=kill@3"])
def test_a_worker_that_dies_while_it_plans_leaves_no_half_plan(
    processes: Processes, journal: Journal, probes: str
) -> None:
    # given plans that workers plan, and a worker whose child dies between two statements
    processes.manage("dynflow_orchestrator", DYNFLOW_SETTINGS=SETTINGS)
    processes.manage("rqworker", "default", DYNFLOW_SETTINGS=SETTINGS, DYNFLOW_PROBES=probes)
    options = TriggerOptions(plan_in_worker=True)
    plans = trigger_many(Child, [{"name": name} for name in NAMES], options=options)

    # when all have ended, then each was planned as a whole, and once
    for plan in plans:
        assert plan.wait(timeout=60).result == "success"
    steps = Counter(Step.objects.filter(plan__in=plans).values_list("phase", "state"))
    assert steps == {(phase, "success"): len(NAMES) for phase in ("plan", "run", "finalize")}
