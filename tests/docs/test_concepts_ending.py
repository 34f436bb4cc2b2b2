"""What the how-to about ending plans promises: its examples run on the real engine."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dynflow_app import BaseAction, Cancel, control
from dynflow_app.exceptions import WrongStateError
from dynflow_app.models import ExecutionPlan
from dynflow_app.triggering import trigger
from tests.docs import alone
from tests.docs.following import FollowedPage
from tests.engine import Engine, outcome

pytestmark = pytest.mark.django_db(transaction=True)
Open = Callable[..., FollowedPage]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers look at once, not once a second."""
    monkeypatch.setattr("dynflow_app.worker.stop_requests.LOOK_INTERVAL", 0.0)


def test_running_code_that_looks_ends_when_it_is_asked_to(page: Open, engine: Engine, impatient: None) -> None:
    copied = 0

    def copy_next(output: dict[str, Any]) -> None:
        nonlocal copied
        copied += 1
        if copied == 1:
            found.follow()  # somebody cancels the plan

    found = page("end-a-plan", copied=lambda output: copied == 20_000_000, copy_next=copy_next)
    found.follow()
    plan = found["plan"] = trigger(found["CopyFiles"])
    engine.run(plan)
    assert (outcome(plan), plan.steps.get().state) == ("stopped/cancelled", "cancelled")
    entry = plan.history.get()
    assert (entry.verb, entry.actor, entry.reason) == ("cancel", "ada", "wrong host")
    found.follow(2)


@pytest.fixture
def rent(page: Open) -> type[BaseAction]:
    found = page("end-a-plan", whole=False)
    found.follow()
    found.skip()
    found.follow()
    kind: type[BaseAction] = found["Rent"]
    return kind


@pytest.mark.parametrize(
    ("answer", "ends"),
    [
        (None, "stopped/success"),
        (Cancel(), "stopped/cancelled"),
        (RuntimeError("lost"), "paused/error"),
        ("suspend", "running/pending"),
    ],
)
def test_how_a_suspended_step_answers_a_cancel(
    rent: type[BaseAction], engine: Engine, answer: BaseException | str | None, ends: str
) -> None:
    class Answering(rent):
        def cancel(self) -> None:
            super().cancel()
            if answer == "suspend":
                self.suspend()
            if isinstance(answer, BaseException):
                raise answer

    plan = engine.run(trigger(Answering))
    control.cancel(plan)
    assert outcome(engine.run(plan)) == ends
    if answer is None:
        assert plan.actions.get().output == {"returned": True}


@pytest.mark.parametrize(
    ("verb", "began", "ends"),
    [
        (control.cancel, False, "cancelled"),
        (control.abort, False, "cancelled"),
        (control.halt, False, "pending"),
        (control.abort, True, "cancelled"),
        (control.halt, True, "suspended"),
    ],
)
def test_what_abort_and_halt_do_to_steps(
    rent: type[BaseAction], engine: Engine, verb: Callable[..., None], began: bool, ends: str
) -> None:
    plan = trigger(rent)
    if began:
        engine.run(plan)
    verb(plan)
    engine.run(plan)
    step = plan.steps.get()
    assert (outcome(plan), step.state) == ("stopped/cancelled", ends)
    assert "returned" not in plan.actions.get().output, "nobody was asked"
    with pytest.raises(WrongStateError):
        control.send_event(step, "hello")


def test_an_isolated_run_has_a_process_of_its_own(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(alone.FILE, str(tmp_path / "converted"))
    assert outcome(engine.run(trigger(vars(alone)["ConvertVideo"], file="a.avi"))) == "stopped/success"
    process, *files = (tmp_path / "converted").read_text().split()
    assert files == ["a.avi"]
    assert int(process) != os.getpid()
    assert alone.memory == [], "nothing that it left in memory survives"


def test_cancel_is_called_beside_running_code_and_its_answer_does_not_count(
    page: Open, engine: Engine, impatient: None
) -> None:
    class Connected(BaseAction):
        def run(self) -> None:
            self.is_closed = threading.Event()
            control.cancel(ExecutionPlan.objects.get(pk=self.plan_id))
            self.output["closed"] = self.is_closed.wait(30)

        def cancel(self) -> None:
            self.is_closed.set()
            raise OSError("closed already")

    plan = engine.run(trigger(Connected))
    assert outcome(plan) == "stopped/success", "code that does not look succeeds as if nothing had been asked"
    assert plan.actions.get().output == {"closed": True}
    assert "OSError: closed already" in plan.actions.get().chunks.get().text
