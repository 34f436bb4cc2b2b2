"""Code that runs is really ended, as well as that can be, and the step says how."""

from __future__ import annotations

import json

import pytest

from dynflow_app import control
from dynflow_app.models import World
from dynflow_app.triggering import trigger
from tests.acceptance.test_crashes import FAST
from tests.support import Processes, wait_until
from tests.testapp import whole
from tests.testapp.journal import Journal

pytestmark = [pytest.mark.servers, pytest.mark.processes]

SETTINGS = json.dumps({**json.loads(FAST), "ACTIONS_MODULE": "whole"})


@pytest.mark.parametrize(
    ("action", "given", "verb", "says"),
    [
        (whole.Loops, {"listens": True}, control.cancel, "asked"),
        (whole.LoopsAsync, {}, control.cancel, "asked"),
        (whole.LoopsAlone, {"listens": True}, control.cancel, "asked"),
        (whole.Loops, {"listens": False}, control.abort, "exception was raised in its thread"),
        (whole.LoopsAsync, {}, control.abort, "coroutine was cancelled"),
        (whole.LoopsAlone, {"listens": False}, control.abort, "process was killed"),
    ],
)
def test_running_code_ends_when_it_is_told_to(
    processes: Processes, journal: Journal, action: type, given: dict[str, bool], verb: object, says: str
) -> None:
    # given code that would run for ever
    processes.manage("dynflow_orchestrator", DYNFLOW_SETTINGS=SETTINGS)
    processes.manage("rqworker", "default", DYNFLOW_SETTINGS=SETTINGS)
    plan = trigger(action, **given)
    wait_until(lambda: journal.lines, describe="it runs")

    # when somebody ends it, then it ends, and the step says how
    verb(plan, by="ada")  # type: ignore[operator]
    assert plan.wait(timeout=20).result == "cancelled"
    step = plan.steps.get()
    assert step.state == "cancelled"
    assert says in step.error["message"]
    assert step.attempts.get().ended_as == "cancelled"


def test_code_that_cannot_be_ended_costs_its_process(processes: Processes, journal: Journal) -> None:
    # given a step that is over its time, and sits in C
    processes.manage("dynflow_orchestrator", DYNFLOW_SETTINGS=SETTINGS)
    processes.manage("rqworker", "default", DYNFLOW_SETTINGS=SETTINGS)
    plan = trigger(whole.OverTime, seconds=1000)
    wait_until(lambda: journal.lines, describe="it runs")
    world = plan.steps.get().ticket.world

    # when nothing helps, then the step fails without it, and its process is replaced
    plan.wait(timeout=40)
    step = plan.steps.get()
    assert (plan.state, step.state) == ("paused", "error")
    assert "the code goes on" in step.error["message"]
    wait_until(lambda: not World.objects.filter(pk=world.pk, state="active").exists(), describe="its process is gone")
    good = trigger(whole.Undoable, name="good")
    assert good.wait(timeout=20).result == "success"
