"""What to do with a plan of which no step can move: a pure function of how many steps are in which state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from dynflow_app.states import ACTIVE_STEP_STATES, PlanResult, StepState

Counts = Mapping[str, int]
"""How many steps of one phase are in each state."""


class Verdict(Enum):
    """What happens to the plan next."""

    WAIT = "wait"
    FINALIZE = "finalize"
    PAUSE = "pause"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Decision:
    """A verdict, and the plan's result as far as it is known."""

    verdict: Verdict
    result: PlanResult = PlanResult.PENDING


def decide(run: Counts, finalize: Counts) -> Decision:
    """The next verdict for a plan with these steps."""
    if any(run.get(state) or finalize.get(state) for state in ACTIVE_STEP_STATES):
        return Decision(Verdict.WAIT)
    if run.get(StepState.ERROR) or finalize.get(StepState.ERROR):
        return Decision(Verdict.PAUSE, PlanResult.ERROR)
    if run.get(StepState.PENDING):
        # Nothing failed, nothing moves, and yet something waits: only an operator can tell what is right.
        return Decision(Verdict.PAUSE, PlanResult.ERROR)
    if finalize.get(StepState.PENDING):
        return Decision(Verdict.FINALIZE)
    return Decision(Verdict.STOP, result_of(run, finalize))


def result_of(run: Counts, finalize: Counts) -> PlanResult:
    """How a plan ended whose steps all ended: the gravest of what happened to any of them."""
    for state, result in _GRAVEST_FIRST:
        if run.get(state) or finalize.get(state):
            return result
    return PlanResult.SUCCESS


_GRAVEST_FIRST = (
    (StepState.CANCELLED, PlanResult.CANCELLED),
    (StepState.ERROR, PlanResult.ERROR),
    (StepState.SKIPPED, PlanResult.WARNING),
)
