"""Events: wake a suspended step from outside."""

from __future__ import annotations

from typing import Any

from django.db import IntegrityError, transaction

from dynflow_app.conf import settings
from dynflow_app.control.common import fresh, lock_by_key, note
from dynflow_app.exceptions import DuplicateEventError, WrongStateError
from dynflow_app.ledger import events
from dynflow_app.ledger.concluding import conclude, ring_after_commit
from dynflow_app.ledger.effects import Effects
from dynflow_app.models import Event, Step
from dynflow_app.models.base import ledger_alias
from dynflow_app.payloads.json import check_json
from dynflow_app.states import LIVE_PLAN_STATES, TERMINAL_STEP_STATES, EventState, Phase, StepState

LONGEST_NAME = 100


def send_event(
    step: Step,
    name: str,
    data: Any = None,
    *,
    by: Any = "",
    reason: str = "",
    optional: bool = False,
    key: str | None = None,
) -> Event | None:
    """Send an event to a step; a suspended one is woken, others get it when they suspend, in the order of sending.

    In the caller's transaction, if there is one: event and business writes come together or not at all. `data` is JSON.
    A second event with the same `key` raises `DuplicateEventError`. A step that has ended cannot handle it: that raises
    `WrongStateError`; with `optional`, None is returned instead.
    """
    if not 0 < len(name) <= LONGEST_NAME:
        raise ValueError(f"The name of an event is text of 1 to {LONGEST_NAME} characters, not {name!r}.")
    check_json(data, f"the data of event {name!r}", settings.PAYLOAD_LIMIT)
    effects = Effects()
    with transaction.atomic(using=ledger_alias()):
        try:
            plan = lock_by_key(step.plan_id, LIVE_PLAN_STATES, f"sent the event {name!r}")
            found = fresh(step)
            if key is not None and Event.objects.filter(key=key).exists():
                raise DuplicateEventError(f"An event with the key {key!r} was sent before.", state=found.state)
            _require_ears(found, name)
        except WrongStateError:
            if optional:
                return None
            raise
        event = _store(found, name, data, by, key)
        Step.objects.filter(pk=found.pk).update(is_addressed=True)
        events.deliver([found.pk], effects)
        ring_after_commit(conclude(effects))
        note(plan, "event", by, reason or name, found.number)
    return event


def _require_ears(step: Step, name: str) -> None:
    if step.state in TERMINAL_STEP_STATES or step.state in (StepState.ERROR, StepState.SKIPPING):
        raise WrongStateError(f"Step {step.number} is {step.state}: it cannot handle {name!r}.", state=step.state)
    if step.phase != Phase.RUN:
        raise WrongStateError(
            f"Step {step.number} is a {step.phase} step, and only run() can handle events.", state=step.state
        )


def _store(step: Step, name: str, data: Any, by: Any, key: str | None) -> Event:
    event = Event(step=step, name=name, data=data, sent_by=str(by)[:255], key=key, state=EventState.WAITING)
    try:
        with transaction.atomic(using=ledger_alias()):
            event.save(force_insert=True)
    except IntegrityError as error:
        if key is None or not Event.objects.filter(key=key).exists():
            raise
        raise DuplicateEventError(f"An event with the key {key!r} was sent before.", state=step.state) from error
    return event
