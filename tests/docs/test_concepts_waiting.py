"""What the how-tos promise about waiting: their examples run on the real engine, which lets time pass by itself."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from django.db import transaction
from django.test import Client

from dynflow_app import BaseAction, control, signals
from dynflow_app.exceptions import DuplicateEventError, WrongStateError
from dynflow_app.states import EventState
from dynflow_app.triggering import trigger
from tests.docs.blocks import DOCS, table
from tests.docs.following import MODULE, FollowedPage
from tests.engine import Engine, outcome

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper

pytestmark = pytest.mark.django_db(transaction=True)
Open = Callable[..., FollowedPage]
DAY = 24 * 3600.0


# --- wait for events -----------------------------------------------------------------------------------------------


def test_a_question_then_the_approval_then_one_callback(page: Open, engine: Engine, settings: SettingsWrapper) -> None:
    asked: list[str] = []
    orders: list[tuple[str, str]] = []
    found = page("wait-for-events", ask_manager=asked.append, place_order=lambda *order: orders.append(order))
    found.follow()
    plan = found["plan"] = engine.run(trigger(found["WaitForApproval"], order="a desk"))
    assert (asked, plan.steps.get().state) == (["a desk"], "suspended")

    # When both events are sent at once, they are handled one after the other
    found.follow()
    assert outcome(engine.run(plan)) == "stopped/success"
    assert plan.actions.get().output == {"questions": ["How much is it?"], "approved_by": "grace"}
    assert [event.attempt for event in found["step"].events.order_by("pk")] == [2, 3]

    # When another system posts to the URL it was given, its JSON is the event
    found.follow(2)
    settings.ROOT_URLCONF = MODULE
    settings.DYNFLOW = {**settings.DYNFLOW, **found["DYNFLOW"]}
    plan = engine.run(trigger(found["Order"], item="a desk"))
    ((item, url),) = orders
    assert (item, url.startswith("https://example.org/dynflow/callbacks/")) == ("a desk", True)
    answers = [
        Client().post(path, {"parcel": "p1"}, content_type=kind).status_code
        for path, kind in [
            (urlsplit(url).path.replace("callbacks/", "callbacks/x"), "application/json"),
            (urlsplit(url).path, "text/plain"),
            (urlsplit(url).path, "application/json"),
            (urlsplit(url).path, "application/json"),
        ]
    ]
    assert answers == [404, 415, 202, 409]
    assert outcome(engine.run(plan)) == "stopped/success"
    assert plan.actions.get().output == {"parcel": "p1"}


@pytest.fixture
def approval(page: Open) -> type[BaseAction]:
    found = page("wait-for-events", whole=False, ask_manager=lambda order: None)
    found.follow()
    kind: type[BaseAction] = found["WaitForApproval"]
    return kind


def test_an_event_that_comes_early_is_kept_and_one_that_comes_late_is_refused(
    approval: type[BaseAction], engine: Engine
) -> None:
    plan = trigger(approval, order="a desk")
    control.send_event(plan.steps.get(), "approved", {"by": "grace"})
    assert outcome(engine.run(plan)) == "stopped/success"
    with pytest.raises(WrongStateError):
        control.send_event(plan.steps.get(), "approved", {"by": "bob"})
    assert control.send_event(plan.steps.get(), "approved", {"by": "bob"}, optional=True) is None


def test_an_event_that_nobody_handled_is_dropped_and_announced(approval: type[BaseAction], engine: Engine) -> None:
    heard: list[dict[str, Any]] = []

    def hear(**facts: Any) -> None:
        heard.append(facts)

    signals.events_dropped.connect(hear)
    plan = engine.run(trigger(approval, order="a desk"))
    for name in "ab":
        control.send_event(plan.steps.get(), name, {"by": "grace"})
    try:
        engine.run(plan)
    finally:
        signals.events_dropped.disconnect(hear)
    states = list(plan.steps.get().events.order_by("pk").values_list("state", flat=True))
    assert (states, len(heard)) == ([EventState.HANDLED, EventState.DROPPED], 1)


def test_what_is_rolled_back_was_not_sent_and_a_key_counts_once(approval: type[BaseAction], engine: Engine) -> None:
    plan = engine.run(trigger(approval, order="a desk"))
    step = plan.steps.get()
    with transaction.atomic():
        control.send_event(step, "approved", {"by": "grace"})
        transaction.set_rollback(True)
    assert engine.run(plan).state == "running"
    control.send_event(step, "question", "?", key="payment 17")
    with pytest.raises(DuplicateEventError):
        control.send_event(step, "question", "?", key="payment 17")


def test_an_event_to_itself_comes_later(page: Open, engine: Engine) -> None:
    class Remember(BaseAction):
        def run(self, event: Any = None) -> None:
            if event is None:
                self.send_event("remind", after=3600)
                self.suspend()
            self.output["heard"] = event.name

    plan = engine.run(trigger(Remember))
    engine.pass_time(3000)
    assert engine.run(plan).state == "running"
    engine.pass_time(600)
    assert outcome(engine.run(plan)) == "stopped/success"
    assert plan.actions.get().output == {"heard": "remind"}


# --- limit time ----------------------------------------------------------------------------------------------------


@pytest.fixture
def payment(page: Open) -> type[BaseAction]:
    found = page("limit-time")
    found.follow()
    kind: type[BaseAction] = found["WaitForPayment"]
    return kind


def test_a_wait_is_over_twice_and_then_the_step_fails(payment: type[BaseAction], engine: Engine) -> None:
    plan = engine.run(trigger(payment))
    engine.pass_time(6 * DAY)
    engine.run(plan)
    assert plan.actions.get().output == {}
    engine.pass_time(DAY)
    engine.run(plan)
    assert (plan.actions.get().output, plan.steps.get().state) == ({"reminded": True}, "suspended")
    engine.pass_time(7 * DAY)
    engine.run(plan)
    assert (plan.state, plan.steps.get().error["class"].rpartition(".")[2]) == ("paused", "StepTimeoutError")
    control.resume(plan)
    assert engine.run(plan).steps.get().state == "suspended", "it has as long again"


def test_the_whole_time_is_shorter_than_the_waits(payment: type[BaseAction], engine: Engine) -> None:
    class Impatient(payment):
        timeout = timedelta(days=1)

        def on_timeout(self) -> None:
            self.output["gave up"] = True

    plan = engine.run(trigger(Impatient))
    engine.pass_time(DAY)
    assert outcome(engine.run(plan)) == "stopped/success", "on_timeout returned"
    assert plan.actions.get().output == {"gave up": True}


def test_a_step_that_no_worker_takes_fails(payment: type[BaseAction], engine: Engine) -> None:
    plan = trigger(payment)
    engine.decide()
    engine.pass_time(599)
    engine.decide()
    assert plan.steps.get().state == "ready"
    engine.pass_time(1)
    engine.decide()
    assert (plan.steps.get().state, plan.steps.get().error["class"]) == ("error", "StartTimeout")


def test_an_event_ends_the_wait(payment: type[BaseAction], engine: Engine) -> None:
    plan = engine.run(trigger(payment))
    control.send_event(plan.steps.get(), "paid")
    assert outcome(engine.run(plan)) == "stopped/success"


# --- poll ----------------------------------------------------------------------------------------------------------


class BackupServer:
    """Backs up a third with each look."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.looks = 0
        self.state = ""
        self.is_down = False

    def start_backup(self, host: str) -> dict[str, Any]:
        self.started.append(host)
        return {"id": len(self.started), "state": "new", "percent": 0}

    def look_up(self, task_id: int) -> dict[str, Any]:
        self.looks += 1
        if self.is_down:
            raise ConnectionError("no answer")
        percent = min(100, 40 * self.looks)
        state = self.state or ("done" if percent == 100 else "busy")
        return {"id": task_id, "state": state, "percent": percent, "reason": "disk full"}


@pytest.fixture
def server() -> BackupServer:
    return BackupServer()


@pytest.fixture
def backup(page: Open, server: BackupServer) -> type[BaseAction]:
    found = page("poll", server=server)
    found.follow()
    kind: type[BaseAction] = found["Backup"]
    return kind


def test_it_polls_until_it_is_done(backup: type[BaseAction], engine: Engine, server: BackupServer) -> None:
    plan = engine.run(trigger(backup, host="web-1"))
    seen = []
    for _ in range(3):
        step = plan.steps.get()
        seen.append((step.state, step.progress, server.looks))
        engine.pass_time(1)
        engine.run(plan)
    assert seen == [("suspended", 0.0, 0), ("suspended", 0.4, 1), ("suspended", 0.8, 2)]
    assert (outcome(plan), server.started) == ("stopped/success", ["web-1"])
    assert plan.actions.get().output["task"]["state"] == "done"
    assert plan.steps.get().attempts.count() == 2, "polls leave no attempts"


def test_an_event_makes_it_poll_at_once(backup: type[BaseAction], engine: Engine, server: BackupServer) -> None:
    plan = engine.run(trigger(backup, host="web-1"))
    control.send_event(plan.steps.get(), "look")
    engine.run(plan)
    assert server.looks == 1


def test_three_failed_polls_fail_and_a_resume_asks_about_the_known_task_first(
    backup: type[BaseAction], engine: Engine, server: BackupServer
) -> None:
    plan = engine.run(trigger(backup, host="web-1"))
    server.is_down = True
    for state in ("running", "running", "paused"):
        engine.pass_time(1)
        assert engine.run(plan).state == state
    server.is_down = False
    control.resume(plan)
    assert outcome(engine.run(plan)) == "stopped/success"
    assert server.started == ["web-1"]


def test_a_verdict_fails_at_once(backup: type[BaseAction], engine: Engine, server: BackupServer) -> None:
    server.state = "failed"
    plan = engine.run(trigger(backup, host="web-1"))
    engine.pass_time(1)
    assert engine.run(plan).state == "paused"
    assert plan.steps.get().error["message"] == "disk full"


def test_the_defaults_of_polling(backup: type[BaseAction]) -> None:
    from dynflow_app import PollingAction

    documented = {row[0]: row[1].strip("`") for row in table(DOCS / "how-to" / "poll.md", "# Poll something")}
    assert documented == {name: str(getattr(PollingAction, name)) for name in documented}
    assert len(documented) == 4
