"""What people see of plans that wait for others: the reason, and how far they are."""

from __future__ import annotations

import pytest

from dynflow_app.models import ExecutionPlan
from dynflow_app.reading.explaining import explain
from dynflow_app.reading.explaining.findings import FindingCode
from dynflow_app.reading.progress import progress_of
from dynflow_app.triggering import chain, trigger
from tests.engine import Engine
from tests.testapp import many
from tests.testapp.journal import Journal

pytestmark = pytest.mark.django_db(transaction=True)


def test_explain_says_how_many_sub_plans_a_step_waits_for(engine: Engine, journal: Journal) -> None:
    # given a parent of two waiting children, of which it has to make a third
    class TwoAtATime(many.ParentOfWaiting):
        concurrency_limit = 2

    plan = engine.run(trigger(TwoAtATime, names=["a", "b", "c"]))

    # when somebody asks, then the counts are there
    (finding,) = [each for each in explain(plan) if each.code == FindingCode.SUB_PLANS_WAIT]
    assert "0 of 3 ended, 1 are to be made" in finding.message

    # and those that wait for a person are told apart
    ExecutionPlan.objects.filter(parent_step__plan=plan, position=0).update(state="paused")
    (finding,) = [each for each in explain(plan) if each.code == FindingCode.SUB_PLANS_WAIT]
    assert finding.message.endswith("1 is paused.")


def test_explain_names_the_plans_that_a_chained_plan_waits_for(engine: Engine, journal: Journal) -> None:
    journal.break_("run a")
    first = engine.run(trigger(many.Child, name="a"))
    assert first is not None
    plan = engine.run(chain([first], many.Child, name="b"))
    assert plan is not None
    (finding,) = explain(plan)
    assert finding.code == FindingCode.PREREQUISITE_WAITS
    assert f"plan {first.pk}, which is paused" in finding.message


def test_the_progress_of_a_parent_is_that_of_its_sub_plans(engine: Engine, journal: Journal) -> None:
    # given four children, of which one fails, so that three have ended; the parent has a finalize step of weight 1
    journal.break_("run c3")
    plan = engine.run(trigger(many.Parent, names=["c0", "c1", "c2", "c3"]))
    assert plan is not None
    assert progress_of([plan])[plan.pk] == pytest.approx(3 / 4 / 2)
