"""What an action class may declare."""

from __future__ import annotations

import pytest

from dynflow_app import BaseAction
from dynflow_app.actions import registry


def atomic_and_async() -> None:
    class Both(BaseAction):
        atomic = True

        async def run(self) -> None:
            """Would get no transaction."""


def atomic_and_isolated() -> None:
    class Both(BaseAction):
        atomic = True
        isolated = True

        def run(self) -> None:
            """Would run in another process than its transaction."""


def atomic_of_async() -> None:
    class Waits(BaseAction):
        async def run(self) -> None:
            """Is fine."""

    class Both(Waits):
        atomic = True


@pytest.mark.parametrize("declare", [atomic_and_async, atomic_and_isolated, atomic_of_async])
def test_an_atomic_step_cannot_run_outside_of_its_transaction(declare: type) -> None:
    """The class is refused before anybody can plan it."""
    with pytest.raises(ValueError, match=r"Both: an atomic run\(\) .* not isolated, not async"):
        declare()
    assert not [found for found in registry.all_classes() if found.__qualname__.endswith(f"{declare.__name__}.Both")]


def test_an_atomic_step_may_inherit_and_have_no_run_yet() -> None:
    class Base(BaseAction):
        atomic = True

    class Runs(Base):
        def run(self) -> None:
            """In the transaction."""

    assert Runs.atomic
