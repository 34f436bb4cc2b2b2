"""Recovery: take back the steps of a process that is gone. What it had started has an unknown outcome.

A step whose action declares that it may be repeated becomes ready again, three losses at most; any other ends in error,
and a person decides. A step that was only claimed becomes ready without a trace.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.db import DatabaseError
from django.db.models import Count, Q

from dynflow_app.ledger.blocked import free_plans
from dynflow_app.ledger.concluding import announce_effects, ring
from dynflow_app.ledger.effects import Effects
from dynflow_app.ledger.recording import record
from dynflow_app.messages import EndedAs, Outcome
from dynflow_app.models import Step, Ticket, World
from dynflow_app.models.base import is_victim
from dynflow_app.payloads.errors import as_error
from dynflow_app.states import StepState

MOST_LOSSES = 3
BATCH = 500


@dataclass(slots=True)
class Reclaimed:
    """What was taken from a world."""

    effects: Effects = field(default_factory=Effects)
    lost: int = 0
    handed_back: int = 0


class _Everything:
    def __contains__(self, step_id: object) -> bool:
        return True


EVERYTHING = _Everything()


def reclaim_all(
    world: World,
    transaction: Callable[[], AbstractContextManager[None]],
    *,
    started: Container[int] = EVERYTHING,
) -> Reclaimed:
    """Take all running steps of a world that is gone, a portion in each `transaction`; rings for each, and returns
    how many there were. Steps of plans that somebody else has locked are left, for a later call. Raises what the
    database raises; what was taken until then is taken."""
    total = Reclaimed()
    waits = True
    while True:
        try:
            with transaction():
                part = reclaim(world.pk, worker=str(world), started=started, waits=waits)
        except DatabaseError as error:
            if not waits or not is_victim(error):
                raise
            waits = False
            continue
        ring(part.effects)
        announce_effects(part.effects)
        total.lost += part.lost
        total.handed_back += part.handed_back
        if part.lost + part.handed_back < BATCH:
            return total


def reclaim(
    world_id: UUID,
    *,
    worker: str,
    started: Container[int] = EVERYTHING,
    only: Collection[int] | None = None,
    waits: bool = True,
) -> Reclaimed:
    """Take the running steps of a world, at most ``BATCH`` of them; in the caller's transaction.

    `started` holds the ids of the steps whose user code may have begun (default: all), `only` those to take at all. If
    it `waits` not, steps are left whose plans somebody else has locked.
    """
    tickets = Ticket.objects.filter(world=world_id).order_by("step")
    if only is not None:
        tickets = tickets.filter(step__in=only)
    if not waits:
        free = free_plans(set(tickets.values_list("step__plan", flat=True)))
        tickets = tickets.filter(step__plan__in=free)
    steps = Step.objects.filter(pk__in=list(tickets.values_list("step", flat=True)[:BATCH]), state=StepState.RUNNING)
    counted = steps.annotate(losses=Count("attempts", filter=Q(attempts__ended_as=EndedAs.LOST)))
    outcomes = [_outcome(step, step.id in started) for step in counted]
    if not outcomes:
        return Reclaimed()
    lost = sum(1 for outcome in outcomes if outcome.ended_as is EndedAs.LOST)
    return Reclaimed(record(outcomes, worker=worker), lost, len(outcomes) - lost)


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
        is_limited=step.slot is not None,
    )
    if was_started:
        outcome.ended_as = EndedAs.LOST
        outcome.error = _LOST
        if not step.is_idempotent or step.losses + 1 >= MOST_LOSSES:
            outcome.state = StepState.ERROR
    return outcome


_LOST = as_error(
    "OutcomeUnknown",
    "The process that ran this step vanished, so it is unknown whether its effects took place. Check them, then "
    "resume the plan to run the step again, or skip the step. Actions that may be repeated say idempotent = True.",
)
