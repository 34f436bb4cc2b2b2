"""User code that misbehaves harms its own step, and no other: not its neighbours, not its worker."""

from __future__ import annotations

import threading

import pytest
from django.db import connection

from dynflow_app import triggering
from dynflow_app.exceptions import PlanningError
from dynflow_app.models import Step, WorldKind
from dynflow_app.processes.registration import register
from dynflow_app.states import StepState
from dynflow_app.worker import stop_requests
from dynflow_app.worker.pump import Pump
from tests.engine import Engine
from tests.support import wait_until
from tests.testapp import misbehaving
from tests.testapp.journal import Journal

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize(
    ("action", "says"),
    [
        (misbehaving.LogsANumber, "log() takes text"),
        (misbehaving.Yields, "its body never ran"),
        (misbehaving.YieldsAsync, "its body never ran"),
        (misbehaving.Exits, "SystemExit"),
        (misbehaving.RaisesTheUnspeakable, "cannot be shown"),
        (misbehaving.ReplacesOutput, "filled, not replaced"),
        (misbehaving.IsNowhere, "progress(nan, 1.0): give what is done"),
        (misbehaving.IsBeyond, "progress(1.5, 1.0): give what is done"),
    ],
)
def test_a_bad_step_ends_in_error_and_its_neighbours_do_not_notice(
    engine: Engine, journal: Journal, action: type, says: str
) -> None:
    # given a bad step between two good ones
    plan = triggering.trigger(misbehaving.Neighbours, action)

    # when they run
    engine.run(plan)

    # then only the bad one failed, and says why
    assert sorted(journal.lines) == ["run after", "run before"]
    (failed,) = plan.steps.filter(state=StepState.ERROR)
    assert says in failed.error["message"] + failed.error["class"]


def test_a_step_whose_code_is_missing_waits_for_it(
    engine: Engine, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scenario 58."""
    # given a plan, and a deploy that takes the run of one of its actions away
    plan = triggering.trigger(misbehaving.Neighbours, misbehaving.LosesRun)
    with monkeypatch.context() as deploy:
        deploy.delattr(misbehaving.LosesRun, "run")

        # when it runs
        engine.run(plan)

        # then the others ran, and this one is parked with the reason
        assert sorted(journal.lines) == ["run after", "run before"]
        (parked,) = plan.steps.filter(state=StepState.SUSPENDED)
        assert (parked.alarm, "has no run()" in parked.error["message"]) == ("parked", True)

    # and it goes on by itself when the code is back
    engine.pass_time(6)
    engine.run(plan)
    assert plan.state == "stopped"


def test_input_that_user_code_changes_is_stored_as_it_was_given(engine: Engine, journal: Journal) -> None:
    plan = triggering.trigger(misbehaving.ChangesItsInput)
    engine.run(plan)
    assert plan.result == "success"
    changed = plan.actions.get(name__endswith="SpoilsInput")
    assert changed.input == {"of": "first"}


def test_a_task_that_exits_does_not_take_other_coroutines_with_it(engine: Engine, journal: Journal) -> None:
    plan = triggering.trigger(misbehaving.Neighbours, misbehaving.ExitsInATask)
    engine.run(plan)
    assert sorted(journal.lines) == ["run after", "run before"]


def test_a_coroutine_that_does_not_end_is_given_up_and_its_worker_goes_on(
    engine: Engine, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has taken no thread, so none has to be replaced."""
    # given a worker that insists at once, a coroutine that is over its time, and another one
    monkeypatch.setattr(stop_requests, "GRACE", 0.0)
    plan, other = (triggering.trigger(action) for action in (misbehaving.TakesNoHint, misbehaving.WaitsForGo))
    engine.decide()

    # when they run, then the first one fails, though its code goes on
    with engine.working() as pump:
        wait_until(lambda: plan.steps.filter(state=StepState.ERROR).exists(), describe="it is given up")
        assert "the code goes on" in plan.steps.get().error["message"]
        assert pump._hand.coroutines == 2

        # and when that ends, nobody minds
        journal.write("stop")
        wait_until(lambda: pump._hand.coroutines == 1, describe="it ends")
        journal.write("go")
    engine.run(other)
    plan.refresh_from_db()
    assert (plan.state, other.result, plan.steps.get().state) == ("paused", "success", "error")


@pytest.mark.parametrize("action", [misbehaving.AsyncPlan, misbehaving.GeneratorPlan, misbehaving.TestsAReference])
def test_a_plan_that_would_silently_be_empty_or_wrong_is_refused(engine: Engine, action: type) -> None:
    with pytest.raises(PlanningError):
        triggering.trigger(action)


def test_an_action_called_by_hand_says_how_to_use_it() -> None:
    with pytest.raises(PlanningError, match="trigger"):
        misbehaving.LogsANumber().run()


def test_one_key_for_two_actions_is_refused(engine: Engine) -> None:
    options = triggering.TriggerOptions(idempotency_key="once")
    triggering.trigger(misbehaving.LogsANumber, options=options)
    with pytest.raises(PlanningError, match="belongs to plan"):
        triggering.trigger(misbehaving.Yields, options=options)


@pytest.mark.servers
def test_long_coroutines_do_not_keep_blocking_steps_from_threads(engine: Engine, journal: Journal) -> None:
    # given a pump in which coroutines wait for something that takes long
    plan = triggering.trigger(misbehaving.WaitersAndWorkers, waiters=12, workers=1)
    engine.decide()
    pump = Pump(engine.world, None, threads=4)
    runner = threading.Thread(target=_run, args=(pump,))
    runner.start()
    wait_until(lambda: plan.steps.filter(state="running").count() == 12, describe="the coroutines wait")

    # when blocking steps become ready
    more = triggering.trigger(misbehaving.WaitersAndWorkers, waiters=0, workers=5)
    engine.decide()

    # then they run beside the coroutines
    wait_until(lambda: more.steps.filter(state="success").count() == 5, describe="the blocking steps ran")
    assert Step.objects.filter(plan=plan, state="running").count() == 12
    journal.write("go")
    pump.stop()
    runner.join(timeout=20)
    engine.run(plan)


@pytest.mark.servers
def test_what_was_claimed_ahead_of_long_steps_goes_to_an_idle_worker(engine: Engine, journal: Journal) -> None:
    # given a worker that has learnt that steps are short, and then claims two long ones and many behind them
    busy = Pump(engine.world, None, threads=2)
    engine.run(triggering.trigger(misbehaving.WaitersAndWorkers, waiters=0, workers=1))
    busy._appetite.seconds = 0.0001
    plan = triggering.trigger(misbehaving.BlockersFirst, blockers=2, workers=20)
    engine.decide()
    runner = threading.Thread(target=_run, args=(busy,))
    runner.start()
    wait_until(lambda: plan.steps.filter(state="running").count() == 22, describe="all are claimed")

    # when another worker is idle
    other = Pump(register(WorldKind.EXECUTOR), None, threads=2)
    helper = threading.Thread(target=_run, args=(other,))
    helper.start()

    # then it gets what the first could not start
    wait_until(lambda: plan.steps.filter(state="success").count() == 20, describe="the other worker helped")
    assert other._hand.recorded >= 20
    journal.write("go")
    for pump, thread in ((busy, runner), (other, helper)):
        pump.stop()
        thread.join(timeout=20)
    engine.run(plan)


def _run(pump: Pump) -> None:
    try:
        pump.run()
    finally:
        connection.close()
