"""Triggering: the verbs of application code."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django.db import DatabaseError, IntegrityError, transaction
from django.utils import timezone

from dynflow_app import probes
from dynflow_app.actions import registry
from dynflow_app.actions.base import BaseAction
from dynflow_app.exceptions import AlreadyActiveError, PlanningError, SchemaOutdatedError
from dynflow_app.ledger.concluding import ring_after_commit
from dynflow_app.ledger.effects import Effects
from dynflow_app.ledger.locking import active_singletons
from dynflow_app.models import ExecutionPlan, Prerequisite
from dynflow_app.models.base import explained_schema_errors, is_outage, ledger_alias
from dynflow_app.payloads.arguments import encode
from dynflow_app.payloads.errors import describe
from dynflow_app.planning import Draft, Preview, preview_of, queue_of, store, store_failures, store_unplanned
from dynflow_app.states import PlanResult

LONGEST_TEXT = 255
MOST_WEIGHT = 1000


@dataclass(frozen=True, kw_only=True)
class TriggerOptions:
    """How a plan is made; every field is optional.

    With `start_at`, `start_before`, `after` or `plan_in_worker` the arguments are stored, and a worker plans the plan
    when it is to start; model instances among them are stored as references. Otherwise it is planned at once.
    """

    label: str = ""
    """What people call it; if empty they see the name of the action."""
    priority: int = 0
    """Added to the priority of each of its actions; higher first within a queue."""
    tags: tuple[str, ...] = ()
    start_at: datetime | None = None
    """When it starts, at the earliest; aware."""
    start_before: datetime | None = None
    """If it has not started by then, it stops with an error; aware."""
    after: tuple[ExecutionPlan, ...] = ()
    """Plans that have to stop first."""
    on_prerequisite: tuple[PlanResult, ...] = (PlanResult.SUCCESS, PlanResult.WARNING)
    """With which results of the plans in `after` it starts. If one of them ends otherwise, or is deleted, it stops
    with an error that names it."""
    plan_in_worker: bool = False
    """Whether a worker runs ``plan()``, and the caller does not wait for it."""
    idempotency_key: str | None = None
    """A second trigger with the same key returns the first plan."""
    fairness_key: str = ""
    """Plans with the same one share their turns in a queue, as if they were one plan. If empty, what the entry action
    says counts, and if it says nothing the plan's turns are its own."""
    fairness_weight: float | None = None
    """How many turns it gets for each one of others; positive. None: what the entry action says."""
    triggered_by: str = ""
    """Who or what asked for it, for people to read."""

    @property
    def is_planned_later(self) -> bool:
        """Whether a worker plans it."""
        return self.plan_in_worker or bool(self.after) or any((self.start_at, self.start_before))


def trigger(
    action_class: type[BaseAction], *args: Any, options: TriggerOptions | None = None, **kwargs: Any
) -> ExecutionPlan:
    """Plan `action_class` with the arguments and store the plan; it starts after the commit.

    Runs the plan phase in the caller's transaction, behind a savepoint. The plan's id is known at once; if the caller
    rolls back, the plan never existed. Needs no Redis. Raises what ``plan()`` raises, and leaves a stopped plan with
    the error to look at. If a worker plans it (see `TriggerOptions`), what ``plan()`` raises is found on the plan.
    """
    options = options or TriggerOptions()
    plan = plan_row(action_class, options)
    if (known := _same_key(action_class, options)) is not None:
        return known
    failure: Exception
    try:
        # One transaction, or one savepoint of the caller's: if it fails, what the user wrote goes.
        with explained_schema_errors(), transaction.atomic(using=ledger_alias()):
            ring_after_commit(_store(action_class, plan, args, kwargs, options))
            probes.reached(probes.Probe.PLAN_STORED)
            return plan
    except DatabaseError as error:
        if is_outage(error):
            raise
        if (known := _same_key(action_class, options)) is not None:  # somebody else was faster with the same key
            return known
        failure = _explained(error, [plan])
    except SchemaOutdatedError:
        raise
    except Exception as error:
        failure = error
    with transaction.atomic(using=ledger_alias()):
        store_failures([(plan, describe(failure))])  # what we note about it stays
    raise failure


def _store(
    action_class: type[BaseAction],
    plan: ExecutionPlan,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    options: TriggerOptions,
) -> Effects:
    if options.is_planned_later:
        _store_for_later(action_class, [(plan, args, kwargs)], options)
        return Effects(rings_orchestrator=True)
    draft = Draft(plan)
    draft.make(action_class, args, kwargs)
    return store([draft])


def preview(
    action_class: type[BaseAction], *args: Any, options: TriggerOptions | None = None, **kwargs: Any
) -> Preview:
    """What `trigger` would plan, as plain values; nothing is stored.

    Runs the plan phase behind a savepoint that is rolled back, so what ``plan()`` writes to the ledger's database is
    undone, and what it does elsewhere is not. Raises what ``plan()`` raises. Of `options` only the priority matters.
    """
    draft = Draft(plan_row(action_class, options or TriggerOptions()))
    with explained_schema_errors(), transaction.atomic(using=ledger_alias()):
        draft.make(action_class, args, kwargs)
        transaction.set_rollback(True, using=ledger_alias())
    return preview_of(draft)


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
    rows: list[tuple[ExecutionPlan, tuple[Any, ...], dict[str, Any]]] = []
    effects = Effects(rings_orchestrator=True)
    try:
        with explained_schema_errors(), transaction.atomic(using=ledger_alias()):
            for arguments in inputs:
                if not isinstance(arguments, Mapping):
                    raise PlanningError(f"trigger_many() takes dictionaries of named arguments, not {arguments!r}.")
                rows.append((plan_row(action_class, options), (), dict(arguments)))
            if options.is_planned_later:
                _store_for_later(action_class, rows, options)
            else:
                drafts = [Draft(plan) for plan, _, _ in rows]
                for draft, (_, args, kwargs) in zip(drafts, rows, strict=True):
                    draft.make(action_class, args, kwargs)
                effects = store(drafts)
            ring_after_commit(effects)
    except IntegrityError as error:
        explained = _explained(error, [plan for plan, _, _ in rows])
        if explained is error:
            raise
        raise explained from error
    return [plan for plan, _, _ in rows]


def delay(
    action_class: type[BaseAction],
    *args: Any,
    start_at: datetime,
    start_before: datetime | None = None,
    options: TriggerOptions | None = None,
    **kwargs: Any,
) -> ExecutionPlan:
    """As `trigger` with these times in its options: store the plan now, plan and start it at `start_at`."""
    options = replace(options or TriggerOptions(), start_at=start_at, start_before=start_before)
    return trigger(action_class, *args, options=options, **kwargs)


def chain(
    plans: Iterable[ExecutionPlan],
    action_class: type[BaseAction],
    *args: Any,
    options: TriggerOptions | None = None,
    **kwargs: Any,
) -> ExecutionPlan:
    """As `trigger` with ``after=plans`` in its options: plan and start it once all of `plans` have stopped well."""
    return trigger(action_class, *args, options=replace(options or TriggerOptions(), after=tuple(plans)), **kwargs)


def _store_for_later(
    action_class: type[BaseAction],
    rows: Sequence[tuple[ExecutionPlan, Iterable[Any], Mapping[str, Any]]],
    options: TriggerOptions,
) -> None:
    queue = queue_of(action_class)
    sensitive = action_class.sensitive
    store_unplanned([(plan, queue, encode(args, kwargs, sensitive=sensitive)) for plan, args, kwargs in rows])
    if options.after:
        # Whoever stops one of them has this lock, and looks for who waits after that.
        list(ExecutionPlan.objects.filter(pk__in=[plan.pk for plan in options.after]).lock().values_list("pk"))
        accepts = [str(PlanResult(result)) for result in options.on_prerequisite]
        Prerequisite.objects.bulk_create(
            Prerequisite(plan=plan, after=after, accepts=accepts) for plan, _, _ in rows for after in set(options.after)
        )


def _explained(error: DatabaseError, plans: Sequence[ExecutionPlan]) -> Exception:
    """What `error` means, if the plans are singletons and another one is active; otherwise itself."""
    name = plans[0].singleton if plans and isinstance(error, IntegrityError) else None
    if name is None:
        return error
    if (active := active_singletons([name]).get(name)) is not None:
        return AlreadyActiveError(
            f"Plan {active} of {name} is active already, and only one may be. Trigger it when that has stopped.",
            plan_id=active,
        )
    if len(plans) > 1:
        return PlanningError(f"Only one plan of {name} may be active, so not {len(plans)} at once can be triggered.")
    return error


def plan_row(action_class: type[BaseAction], options: TriggerOptions) -> ExecutionPlan:
    """A plan that is not stored yet. Raises `PlanningError` for options that no plan can have."""
    _check_times(options)
    for field, kind in (("priority", int), ("tags", (tuple, list)), ("after", (tuple, list))):
        given: object = getattr(options, field)
        if not isinstance(given, kind):
            raise PlanningError(f"The {field} of a plan cannot be {given!r}.")
    if not all(isinstance(plan, ExecutionPlan) for plan in options.after):
        raise PlanningError(f"A plan can be chained after execution plans only, not after {options.after!r}.")
    for field in ("label", "idempotency_key", "triggered_by", "fairness_key"):
        text = getattr(options, field)
        if text is not None and not (isinstance(text, str) and len(text) <= LONGEST_TEXT):
            raise PlanningError(f"The {field} of a plan is text of at most {LONGEST_TEXT} characters.")
    if not registry.is_action_class(action_class):
        raise PlanningError(f"trigger() takes a subclass of BaseAction, not {action_class!r}.")
    weight: object = action_class.fairness_weight if options.fairness_weight is None else options.fairness_weight
    if not isinstance(weight, (int, float)) or not 0 < weight <= MOST_WEIGHT:
        raise PlanningError(
            f"The fairness_weight of a plan is a number above 0 and up to {MOST_WEIGHT}, not {weight!r}."
        )
    return ExecutionPlan(
        action=registry.action_name(action_class),
        label=options.label,
        priority=options.priority,
        tags=list(options.tags),
        idempotency_key=options.idempotency_key,
        triggered_by=options.triggered_by,
        fairness_key=options.fairness_key,
        fairness_weight=weight,
        start_at=options.start_at,
        start_before=options.start_before,
        singleton=registry.action_name(action_class) if action_class.singleton else None,
    )


def _check_times(options: TriggerOptions) -> None:
    for field in ("start_at", "start_before"):
        at: object = getattr(options, field)
        if not isinstance(at, (datetime, type(None))):
            raise PlanningError(f"The {field} of a plan cannot be {at!r}.")
        if at is not None and timezone.is_naive(at):
            raise PlanningError(
                f"{field} has no time zone; use django.utils.timezone.now() plus a timedelta, or the like."
            )
    if options.start_at and options.start_before and options.start_before <= options.start_at:
        raise PlanningError("start_before is not after start_at, so the plan would never start.")


def _same_key(action_class: type[BaseAction], options: TriggerOptions) -> ExecutionPlan | None:
    if options.idempotency_key is None:
        return None
    known = ExecutionPlan.objects.filter(idempotency_key=options.idempotency_key).first()
    if known is not None and known.action != registry.action_name(action_class):
        raise PlanningError(
            f"The idempotency key {options.idempotency_key!r} belongs to plan {known.pk} of {known.action} already."
        )
    return known
