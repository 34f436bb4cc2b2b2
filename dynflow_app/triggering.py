"""Triggering: the verbs of application code."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import DatabaseError, transaction
from django.utils import timezone

from dynflow_app import clock, probes, transport
from dynflow_app.actions import registry
from dynflow_app.actions.base import BaseAction
from dynflow_app.exceptions import PlanningError
from dynflow_app.ledger.errors import describe
from dynflow_app.models import ExecutionPlan
from dynflow_app.models.base import explained_schema_errors, ledger_alias
from dynflow_app.planning import Draft, store
from dynflow_app.states import PlanResult, PlanState

LONGEST_TEXT = 255


@dataclass(frozen=True, kw_only=True)
class TriggerOptions:
    """How a plan is made; every field is optional."""

    label: str = ""
    """What people call it; if empty they see the name of the action."""
    priority: int = 0
    """Added to the priority of each of its actions; higher first within a queue."""
    tags: tuple[str, ...] = ()
    start_at: datetime | None = None
    """When it starts, at the earliest; aware. It is planned at once and stays *planned* until then."""
    idempotency_key: str | None = None
    """A second trigger with the same key returns the first plan."""
    triggered_by: str = ""
    """Who or what asked for it, for people to read."""


def trigger(
    action_class: type[BaseAction], *args: Any, options: TriggerOptions | None = None, **kwargs: Any
) -> ExecutionPlan:
    """Plan `action_class` with the arguments and store the plan; it starts after the commit.

    Runs the plan phase in the caller's transaction, behind a savepoint. The plan's id is known at once; if the caller
    rolls back, the plan never existed. Needs no Redis. Raises what ``plan()`` raises, and leaves a stopped plan with
    the error to look at.
    """
    options = options or TriggerOptions()
    draft = Draft(_plan_row(action_class, options), options.start_at)
    failure: Exception | None = None
    with explained_schema_errors(), transaction.atomic(using=ledger_alias()):
        if (known := _same_key(action_class, options)) is not None:
            return known
        try:
            with transaction.atomic(using=ledger_alias()):  # if it fails, what the user wrote goes
                draft.make(action_class, args, kwargs)
                store([draft])
        except DatabaseError as error:
            if (known := _same_key(action_class, options)) is not None:  # somebody else was faster with the same key
                return known
            failure = error
        except Exception as error:
            failure = error
        if failure is None:
            probes.reached(probes.Probe.PLAN_STORED)
            transaction.on_commit(_ring, using=ledger_alias(), robust=True)
        else:
            _store_failure(draft.plan, failure)  # what we note about it stays
    if failure is not None:
        raise failure
    return draft.plan


def trigger_many(
    action_class: type[BaseAction], inputs: Iterable[dict[str, Any]], *, options: TriggerOptions | None = None
) -> list[ExecutionPlan]:
    """Trigger `action_class` once for each dictionary of named arguments, with bulk inserts in one transaction.

    All or none: if one fails in planning, nothing is stored and its error is raised. `options` apply to each, so they
    may not carry an idempotency key.
    """
    options = options or TriggerOptions()
    if options.idempotency_key:
        raise PlanningError("trigger_many() makes several plans, which cannot share one idempotency key.")
    with explained_schema_errors(), transaction.atomic(using=ledger_alias()):
        drafts = []
        for arguments in inputs:
            if not isinstance(arguments, Mapping):
                raise PlanningError(f"trigger_many() takes dictionaries of named arguments, not {arguments!r}.")
            draft = Draft(_plan_row(action_class, options), options.start_at)
            draft.make(action_class, (), arguments)
            drafts.append(draft)
        store(drafts)
        transaction.on_commit(_ring, using=ledger_alias(), robust=True)
    return [draft.plan for draft in drafts]


def _ring() -> None:
    transport.get().ring_orchestrator()


def _plan_row(action_class: type[BaseAction], options: TriggerOptions) -> ExecutionPlan:
    for field, kind in (("priority", int), ("tags", (tuple, list)), ("start_at", (datetime, type(None)))):
        given: object = getattr(options, field)
        if not isinstance(given, kind):
            raise PlanningError(f"The {field} of a plan cannot be {given!r}.")
    if options.start_at is not None and timezone.is_naive(options.start_at):
        raise PlanningError("start_at has no time zone; use django.utils.timezone.now() plus a timedelta, or the like.")
    for field in ("label", "idempotency_key", "triggered_by"):
        text = getattr(options, field)
        if text is not None and not (isinstance(text, str) and len(text) <= LONGEST_TEXT):
            raise PlanningError(f"The {field} of a plan is text of at most {LONGEST_TEXT} characters.")
    if not registry.is_action_class(action_class):
        raise PlanningError(f"trigger() takes a subclass of BaseAction, not {action_class!r}.")
    return ExecutionPlan(
        action=registry.action_name(action_class),
        label=options.label,
        priority=options.priority,
        tags=list(options.tags),
        idempotency_key=options.idempotency_key,
        triggered_by=options.triggered_by,
    )


def _store_failure(plan: ExecutionPlan, error: Exception) -> None:
    plan.state, plan.result = PlanState.STOPPED, PlanResult.ERROR
    plan.error = describe(error)
    plan.ended_at = clock.now()
    plan.idempotency_key = None  # the caller may try again with the same key
    plan.save(force_insert=True, using=ledger_alias())


def _same_key(action_class: type[BaseAction], options: TriggerOptions) -> ExecutionPlan | None:
    if options.idempotency_key is None:
        return None
    known = ExecutionPlan.objects.filter(idempotency_key=options.idempotency_key).first()
    if known is not None and known.action != registry.action_name(action_class):
        raise PlanningError(
            f"The idempotency key {options.idempotency_key!r} belongs to plan {known.pk} of {known.action} already."
        )
    return known
