"""Recovery: take back the steps of a process that is gone. What it had started has an unknown outcome.

A step whose action declares that it may be repeated becomes ready again, three losses at most; any other ends in error,
and a person decides. A step that was only claimed becomes ready without a trace.
"""

from __future__ import annotations

from collections.abc import Collection, Container
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db.models import Count, Q

from dynflow_app.ledger.recording import Recorded, record
from dynflow_app.messages import EndedAs, Outcome
from dynflow_app.models import Step
from dynflow_app.states import StepState

MOST_LOSSES = 3
BATCH = 500


@dataclass(slots=True)
class Reclaimed:
    """What was taken from a world."""

    recorded: Recorded
    lost: int
    handed_back: int


class _Everything:
    def __contains__(self, step_id: object) -> bool:
        return True


EVERYTHING = _Everything()


def reclaim(
    world_id: UUID, *, worker: str, started: Container[int] = EVERYTHING, spare: Collection[int] = frozenset()
) -> Reclaimed:
    """Take the running steps of a world, at most ``BATCH`` of them; in the caller's transaction.

    `started` holds the ids of the steps whose user code may have begun (default: all), `spare` those to leave alone.
    """
    steps = Step.objects.filter(world_id=world_id, state=StepState.RUNNING).exclude(id__in=spare)
    counted = steps.annotate(losses=Count("attempts", filter=Q(attempts__ended_as=EndedAs.LOST)))
    outcomes = [_outcome(step, step.id in started) for step in counted[:BATCH]]
    recorded = record(outcomes, worker=worker) if outcomes else Recorded()
    lost = sum(1 for outcome in outcomes if outcome.ended_as is EndedAs.LOST)
    return Reclaimed(recorded, lost, len(outcomes) - lost)


def _outcome(step: Any, was_started: bool) -> Outcome:  # a Step with its annotation
    outcome = Outcome(
        step_id=step.id,
        plan_id=step.plan_id,
        action_id=step.action_id,
        attempt=step.attempt,
        is_awaited=step.is_awaited,
        state=StepState.READY,
        ended_as=None,
        phase=step.phase,
    )
    if was_started:
        outcome.ended_as = EndedAs.LOST
        outcome.error = _LOST
        if not step.is_idempotent or step.losses + 1 >= MOST_LOSSES:
            outcome.state = StepState.ERROR
    return outcome


_LOST = {
    "class": "OutcomeUnknown",
    "message": (
        "The process that ran this step vanished, so it is unknown whether its effects took place. Check them, then "
        "resume the plan to run the step again, or skip the step. Actions that may be repeated say idempotent = True."
    ),
    "backtrace": "",
}
