"""What the how-tos promise about typed and secret data: their examples run on the real engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.fernet import Fernet
from typing_extensions import TypedDict

from dynflow_app import BaseAction, control
from dynflow_app.actions.schemas import json_schema
from dynflow_app.exceptions import InvalidDataError
from dynflow_app.models import Action, ExecutionPlan, Step
from dynflow_app.triggering import trigger
from tests.docs.following import FollowedPage
from tests.engine import Engine, outcome

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper

pytestmark = pytest.mark.django_db(transaction=True)
Open = Callable[..., FollowedPage]


# --- declare input and output --------------------------------------------------------------------------------------


def test_mistakes_in_the_input_show_when_it_is_planned(page: Open, engine: Engine) -> None:
    reserved: list[dict[str, Any]] = []
    answers: list[Any] = [17, "none left"]

    def reserve(**given: Any) -> Any:
        reserved.append(given)
        return answers.pop(0)

    found = page("declare-types", reserve=reserve)
    found.follow(2)
    assert outcome(engine.run(found["plan"])) == "stopped/success"
    assert reserved == [{"host": "web-1", "until": "2031-05-01", "cores": 2}]
    failed = engine.run(trigger(found["Reserve"], host="web-2", until="2031-05-01"))
    assert (failed.state, failed.steps.get().error["class"].rpartition(".")[2]) == ("paused", "InvalidDataError")
    with pytest.raises(InvalidDataError):
        trigger(found["Reserve"], host="web-1", until="2031-05-01", cores="5")
    assert set(json_schema(found["Reserve"], "input")["properties"]) == {"host", "until", "cores"}


def test_an_output_that_is_referred_to_is_checked_before_run(page: Open, engine: Engine) -> None:
    reserved: list[Any] = []
    found = page("declare-types", whole=False, reserve=lambda **given: reserved.append(given))
    found.follow()

    class Ask(BaseAction):
        def run(self) -> None:
            self.output["until"] = "soon"

    class Both(BaseAction):
        def plan(self, **more: int) -> None:
            asked = self.plan_action(Ask)
            self.plan_action(found["Reserve"], host="web-1", until=asked.output["until"], **more)

    with pytest.raises(InvalidDataError, match="there is no such key"):
        trigger(Both, size=3)
    plan = engine.run(trigger(Both))
    assert (plan.state, reserved) == ("paused", [])


@dataclass
class Disk:
    """A part of an input."""

    size: int


class Part(TypedDict):
    """Another one."""

    size: int


def test_unknown_keys_are_refused_unless_they_are_nested(page: Open) -> None:
    class Plug(BaseAction):
        @dataclass
        class Input:
            disk: Disk
            part: Part

        def run(self) -> None:
            """Do nothing."""

    plan = trigger(Plug, disk={"size": 1, "colour": "red"}, part={"size": 2, "colour": "red"})
    assert plan.actions.get().input == {"disk": {"size": 1}, "part": {"size": 2}}
    with pytest.raises(InvalidDataError, match="there is no such key"):
        trigger(Plug, disk={"size": 1}, part={"size": 2}, colour="red")


# --- keep secrets --------------------------------------------------------------------------------------------------


def everything_stored_about(plan: ExecutionPlan) -> str:
    step = Step.objects.get(plan=plan)
    rows = [*Action.objects.filter(plan=plan).values_list("input", "output"), step.error]
    rows += step.attempts.values_list("error", flat=True)
    rows += step.action.chunks.values_list("text", flat=True)
    return str(rows)


def test_a_secret_is_in_the_open_for_run_only(page: Open, engine: Engine, settings: SettingsWrapper) -> None:
    settings.DYNFLOW = {**settings.DYNFLOW, "ENCRYPTION_KEYS": (Fernet.generate_key().decode(),)}
    used: list[tuple[str, str]] = []
    found = page("keep-secrets", set_pin=lambda *given: used.append(given))
    found.follow()
    found["plan"] = plan = engine.run(trigger(found["SetPassword"], user="ada", pin="8137-2"))
    found.follow()
    assert used == [("ada", "8137-2")]
    assert "setting ••••" in everything_stored_about(plan)
    assert "8137-2" not in everything_stored_about(plan)


def test_without_keys_a_secret_is_stored_as_it_is_and_masked_all_the_same(page: Open, engine: Engine) -> None:
    found = page("keep-secrets", set_pin=lambda *given: None)
    found.follow()
    found["plan"] = plan = engine.run(trigger(found["SetPassword"], user="ada", pin="8137-2"))
    found.follow()
    assert "8137-2" in str(plan.actions.get().input)
    assert "8137-2" not in str(plan.steps.get().error)


def test_keys_are_changed_without_a_gap(page: Open, engine: Engine, settings: SettingsWrapper) -> None:
    old, new = (Fernet.generate_key().decode() for _ in range(2))
    used: list[str] = []
    found = page("keep-secrets", whole=False, set_pin=lambda _, pin: used.append(pin))
    found.follow()
    settings.DYNFLOW = {**settings.DYNFLOW, "ENCRYPTION_KEYS": (old,)}
    plan = trigger(found["SetPassword"], user="ada", pin="8137-2")
    for keys, error in [((new, old), "RuntimeError"), ((new,), "SealingError")]:
        settings.DYNFLOW = {**settings.DYNFLOW, "ENCRYPTION_KEYS": keys}
        engine.run(plan)
        assert plan.steps.get().error["class"].rpartition(".")[2] == error
        control.resume(plan)
    assert used == ["8137-2"]
