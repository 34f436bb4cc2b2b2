"""What to do with a plan of which no step can move: a pure function of how many steps are in which state."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum

from dynflow_app.engine.rescue import combine
from dynflow_app.states import ACTIVE_STEP_STATES, PlanResult, Rescue, StepState

Counts = Mapping[str, int]
"""How many steps of one phase are in each state."""


class Verdict(Enum):
    """What happens to the plan next."""

    WAIT = "wait"
    FINALIZE = "finalize"
    PAUSE = "pause"
    STOP = "stop"
    CANCEL = "cancel"
    """Stop, and cancel what has not begun."""
    RESCUE = "rescue"
    """A step failed, and nobody has said yet what that means for the plan."""
    SKIP = "skip"
    """Give the failed steps up and go on."""
    REVERT = "revert"
    """Stop, and undo in a new plan what was done."""


@dataclass(frozen=True, slots=True)
class Decision:
    """A verdict, and the plan's result as far as it is known."""

    verdict: Verdict
    result: PlanResult = PlanResult.PENDING


def decide(run: Counts, finalize: Counts, rescues: Collection[str] = ()) -> Decision:
    """The next verdict for a plan with these steps; `rescues` holds what was decided about each failed one."""
    if any(run.get(state) or finalize.get(state) for state in ACTIVE_STEP_STATES):
        return Decision(Verdict.WAIT)
    if run.get(StepState.ERROR) or finalize.get(StepState.ERROR):
        return _after_failure(rescues)
    if run.get(StepState.CANCELLED) or finalize.get(StepState.CANCELLED):
        return Decision(Verdict.CANCEL, PlanResult.CANCELLED)
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


def _after_failure(rescues: Collection[str]) -> Decision:
    if Rescue.UNDECIDED in rescues:
        return Decision(Verdict.RESCUE, PlanResult.ERROR)
    return Decision(_VERDICTS[combine(map(Rescue, rescues))], PlanResult.ERROR)


_VERDICTS = {
    Rescue.PAUSE: Verdict.PAUSE,
    Rescue.SKIP: Verdict.SKIP,
    Rescue.FAIL: Verdict.STOP,
    Rescue.REVERT: Verdict.REVERT,
}

_GRAVEST_FIRST = (
    (StepState.CANCELLED, PlanResult.CANCELLED),
    (StepState.ERROR, PlanResult.ERROR),
    (StepState.SKIPPED, PlanResult.WARNING),
)
