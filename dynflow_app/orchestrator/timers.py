"""Timers: what is due by the database's clock. Alarms of steps, starts of limited steps; envelopes are the inbox's.

A timer is a column that says when, so whatever was down in between, it is found once, and late rather than never.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from uuid import UUID

from dynflow_app import probes
from dynflow_app.ledger import alarms, limits
from dynflow_app.ledger.blocked import SHORTEST_PAUSE, free_plans
from dynflow_app.ledger.concluding import announce_effects, conclude, ring
from dynflow_app.ledger.effects import Effects
from dynflow_app.ledger.steps import fail
from dynflow_app.messages import Outcome
from dynflow_app.models import Envelope, Limit, Schedule, Step, Term
from dynflow_app.payloads.errors import as_error
from dynflow_app.states import Alarm, StepState

BATCH = 500
LIMITS_BATCH = 50

_LATE = as_error(
    "StartTimeout",
    "No worker claimed this step within its start_timeout. Start workers for its queue, then resume the plan.",
)


@dataclass(frozen=True, slots=True)
class Due:
    """Seconds until the first timer of each kind; zero or less if one is due, None if there is none."""

    envelopes: float | None
    alarms: float | None
    limits: float | None
    schedules: float | None

    @property
    def first(self) -> float | None:
        """Seconds until the first of all."""
        given = [each for each in (self.envelopes, self.alarms, self.limits, self.schedules) if each is not None]
        return min(given) if given else None


def look() -> Due:
    """When something is due. One statement."""
    return Due(
        *alarms.first_times((Envelope, "due_at"), (Step, "alarm_at"), (Limit, "wakes_at"), (Schedule, "next_at"))
    )


def is_due(seconds: float | None) -> bool:
    """Whether such a timer has to be acted on."""
    return seconds is not None and seconds <= 0


def fire_alarms(term: Term) -> int:
    """Act on a batch of alarms that are due; returns how many."""
    effects = Effects()
    with term.transaction():
        woken = alarms.wake(BATCH)
        effects.became_ready(woken, is_new=False)
        late = alarms.late_starts(BATCH)
        probes.reached(probes.Probe.TIMERS_FIRED)
    ring(effects)
    if late:  # in a transaction of its own: this one locks plans before steps
        _expire(term, late)
    return len(woken) + sum(map(len, late.values()))


def fire_limits(term: Term) -> int:
    """Let steps start whose limit allows it by now; returns how many limits were due."""
    effects = Effects()
    with term.transaction():
        due = limits.due_limits(LIMITS_BATCH)
        effects.limits.update(due)
        conclude(effects)
    ring(effects)
    return len(due)


def _expire(term: Term, late: Mapping[UUID, Collection[int]]) -> None:
    """These steps fail, unless somebody claimed them meanwhile; others may take their place in a limit."""
    effects = Effects()
    with term.transaction():
        free = free_plans(late)
        alarms.put_off([pk for plan, pks in late.items() if plan not in free for pk in pks], SHORTEST_PAUSE)
        steps = Step.objects.filter(id__in=[pk for plan in free for pk in late[plan]], alarm=Alarm.START)
        keys = steps.values_list("limit_key", flat=True)
        effects.limits.update(key for key in keys if key is not None)
        effects.failed = [_late_outcome(step) for step in fail(steps, _LATE)]
        effects.ended(outcome.plan_id for outcome in effects.failed)
        conclude(effects)
    ring(effects)
    announce_effects(effects)


def _late_outcome(step: Step) -> Outcome:
    return Outcome(
        step_id=step.pk, plan_id=step.plan_id, action_id=step.action_id, attempt=step.attempt, is_awaited=False,
        state=StepState.ERROR, ended_as=None, error=_LATE, phase=step.phase,
    )  # fmt: skip
