"""What a step logs reaches the ledger whole, and in order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dynflow_app import BaseAction, triggering
from dynflow_app.models import OutputChunk
from dynflow_app.worker.step_log import TAIL
from tests.engine import Engine

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper

pytestmark = pytest.mark.django_db(transaction=True)


class Talks(BaseAction):
    """Logs so many lines without a pause, and fails afterwards if it is to."""

    def run(self) -> None:
        for number in range(self.input["lines"]):
            self.log(f"{number}: {'x' * 50}\n")
        if self.input["fails"]:
            raise ValueError("it was too much")


def test_thousands_of_lines_at_once_are_all_kept(engine: Engine) -> None:
    engine.run(triggering.trigger(Talks, lines=5_000, fails=False))
    assert logged().splitlines() == [f"{number}: {'x' * 50}" for number in range(5_000)]
    assert max(len(text) for text in OutputChunk.objects.values_list("text", flat=True)) <= 64 * 1024


@pytest.mark.parametrize("fails", [False, True])
def test_beyond_the_limit_the_end_is_kept_and_what_is_missing_is_counted(
    engine: Engine, settings: SettingsWrapper, fails: bool
) -> None:
    settings.DYNFLOW = {**settings.DYNFLOW, "LOG_LIMIT": 1000}
    engine.run(triggering.trigger(Talks, lines=5_000, fails=fails))
    whole = "".join(f"{number}: {'x' * 50}\n" for number in range(5_000))
    left_out = len(whole) - 1000 - TAIL
    assert logged() == f"{whole[:1000]}\n... {left_out} characters left out ...\n{whole[-TAIL:]}"


def logged() -> str:
    return "".join(OutputChunk.objects.order_by("id").values_list("text", flat=True))
