"""The limits do the work that they are a limit of, on tables that are there for that alone."""

from __future__ import annotations

import pytest
from django.db import connection

from project.bench.limits import filling, place, working
from project.bench.limits.design import Design

pytestmark = [pytest.mark.servers, pytest.mark.django_db(transaction=True)]
designs = pytest.mark.parametrize("design", working.DESIGNS, ids=lambda design: design.name)


def schemas() -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'limit%'")
        return {name for (name,) in cursor.fetchall()}


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(working, "LEAST_STEPS", 1)


@designs
def test_every_step_is_done_once_and_nothing_is_left(design: Design, few_steps: None) -> None:
    figures = working.steps(design, 250)

    # had a step been left out or done twice, that would have raised
    assert figures["steps_per_second"] == pytest.approx(1000 / figures["ms_per_step"])
    assert {"cpu_ms_per_step_client", "cpu_ms_per_step_total"} <= figures.keys()
    assert schemas() == set()


@designs
def test_steps_of_a_chain_wait_for_each_other(design: Design) -> None:
    with place.fresh(design) as direct:
        plan = filling.chain(direct, design, 4)
        loop = working._Loop(direct, design, plan, batch=10)

        # the batch would hold all four, if they did not wait
        assert len(loop.hop_by_hop()) == 5
        loop.check(4)
        numbers = direct.execute("SELECT number FROM step ORDER BY started_at").fetchall()
    assert numbers == [(1,), (2,), (3,), (4,)]


@designs
def test_a_plan_of_one_step_is_all_its_rows(design: Design) -> None:
    assert working.plans(design, 3)["triggered_per_second"] > 0


@designs
def test_a_held_or_foreign_step_is_not_claimed_and_a_late_result_not_recorded(design: Design) -> None:
    with place.fresh(design) as direct:
        plan = filling.fan(direct, design, 1)
        given = {
            "plan": plan, "queue": "other", "batch": 5, "world": filling.world(direct),
            "ids": [], "attempts": [], "last": 0,
        }  # fmt: skip
        assert direct.execute(design.turn, given).fetchall() == []
        ((step, attempt, *_),) = direct.execute(design.turn, {**given, "queue": "default"}).fetchall()

        direct.execute(design.turn, {**given, "ids": [step], "attempts": [attempt + 1]})
        assert direct.execute("SELECT step.state, active_steps FROM step, plan").fetchall() == [("running", 1)]

        direct.execute(design.turn, {**given, "ids": [step], "attempts": [attempt]})
        assert direct.execute("SELECT step.state, active_steps FROM step, plan").fetchall() == [("success", 0)]


@designs
def test_a_measurement_that_left_something_out_is_none(design: Design) -> None:
    with place.fresh(design) as direct:
        loop = working._Loop(direct, design, filling.fan(direct, design, 5), batch=2)
        loop.in_batches()
        with pytest.raises(working.LimitError, match="5 instead of 6"):
            loop.check(6)
