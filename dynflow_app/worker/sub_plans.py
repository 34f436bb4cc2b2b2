"""Spawning: a step makes its sub-plans, a batch in each transaction, as far as its limit allows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any

from django.db import transaction
from django.db.models import Count, Exists, F, OuterRef, Subquery
from django.db.models.functions import Coalesce

from dynflow_app import control, probes
from dynflow_app.actions.sub_plans import SubPlan, SubPlanCounts, SubPlanRecord, SubPlansAction
from dynflow_app.exceptions import PlanningError, WrongStateError
from dynflow_app.ledger.concluding import ring
from dynflow_app.ledger.effects import Effects
from dynflow_app.ledger.families import end_many
from dynflow_app.messages import Claimed, EnvelopeKind
from dynflow_app.models import Action, Envelope, ExecutionPlan, Step, SubPlans
from dynflow_app.models.base import is_outage, ledger_alias
from dynflow_app.models.execution_plan import ExecutionPlanQuerySet
from dynflow_app.models.ticket import own_key
from dynflow_app.payloads.errors import describe
from dynflow_app.payloads.sealing import unseal
from dynflow_app.planning import Draft, store, store_failures
from dynflow_app.states import RESTING_PLAN_STATES, PlanResult, PlanState, StepState, StopRequest
from dynflow_app.triggering import TriggerOptions, plan_row
from dynflow_app.worker.outage import outlasting

PORTION = 500


class _InOtherHandsError(Exception):
    """The step is not this worker's any more, or was told to end: the batch is rolled back."""


@dataclass(slots=True)
class Spawner:
    """What one invocation of a step with sub-plans does."""

    step: Claimed
    action: SubPlansAction
    check: Callable[[], None]
    _plan: ExecutionPlan | None = None
    _effects: Effects = field(default_factory=Effects)
    """Of the batch under way."""

    def run(self) -> tuple[int | None, bool]:
        """Make what may be made. Returns as `RunContext.make_sub_plans`."""
        while True:
            self.check()
            result = outlasting(self._once, self.check)
            ring(self._effects)
            if result is not None:
                return result

    def _once(self) -> tuple[int | None, bool] | None:
        """One batch; None if there may be more. Begins with a look, so that it can be repeated."""
        self._effects = Effects()
        seen = self._look()
        round_ = seen.round + self.step.failures
        most = self.action.concurrency_limit or seen.total
        if seen.stop_request != StopRequest.NONE:
            return (1, True) if seen.moving or seen.is_uncounted else (None, True)
        room = min(self.action.batch_size, most - seen.moving)
        if room > 0 and self._make_some(seen, room, round_):
            return None
        if not seen.moving and not seen.is_uncounted:
            return None, False
        return (most if room <= 0 and self._is_more_to_do(seen, round_) else 1), False

    def _look(self) -> Any:  # a SubPlans row with annotations
        """How far the sub-plans are, and whether the step was told to end. One query."""
        rows = SubPlans.objects.filter(step=self.step.step_id)
        moving = children(OuterRef("step_id")).exclude(state__in=RESTING_PLAN_STATES).order_by().values("parent_step")
        counted = Coalesce(Subquery(moving.annotate(n=Count("pk")).values("n")), 0)
        unread = Envelope.objects.filter(step_id=OuterRef("step_id"), kind=EnvelopeKind.SUB_PLANS.value)
        # Of one moment: one that has just come to rest is either moving still, or not counted yet, or counted.
        seen = rows.annotate(moving=counted, stop_request=F("step__stop_request"), is_uncounted=Exists(unread)).first()
        if seen is not None:
            return seen
        total: object = self.action.total()
        if type(total) is not int or total < 0:
            raise PlanningError(f"total() of {type(self.action).__name__} returned {total!r}; give a whole number.")
        rows.get_or_create(step_id=self.step.step_id, defaults={"total": total})
        return self._look()

    def _make_some(self, seen: Any, room: int, round_: int) -> int:
        """Make or resume up to `room` sub-plans; returns how many."""
        try:
            with transaction.atomic(using=ledger_alias()):
                number = self._make(seen, room, round_)
        except _InOtherHandsError:
            self._effects = Effects()
            if self._look().stop_request == StopRequest.NONE:
                raise WrongStateError("This step was taken from the worker that ran it.") from None
            return 1  # and the next look sees that
        probes.reached(probes.Probe.SUB_PLANS_MADE)
        return number

    def _make(self, seen: Any, room: int, round_: int) -> int:
        if seen.made < seen.total:
            positions: Sequence[int] = range(seen.made, min(seen.made + room, seen.total))
            failed = self._make_at(positions, round_)
            self._confirm(seen.made, made=F("made") + len(positions), error=F("error") + failed)
            return len(positions)
        if not round_:
            return 0
        if old := list(_failed(self.step.step_id, round_).order_by("position")[:room]):
            positions = [plan.position for plan in old if plan.position is not None]
            ExecutionPlan.objects.filter(pk__in=[plan.pk for plan in old]).update(position=None)
            failed = self._make_at(positions, round_)
            self._confirm(seen.made, error=F("error") - len(old) + failed)
            return len(old)
        paused = list(_paused(self.step.step_id, round_).values_list("pk", flat=True)[:room])
        if paused:
            plans = ExecutionPlan.objects.filter(pk__in=paused)
            plans.update(round=round_)
            control.in_bulk(control.resume, plans, by=f"plan {self.step.plan_id}", reason="its parent was resumed")
            self._confirm(seen.made)
        return len(paused)

    def _is_more_to_do(self, seen: Any, round_: int) -> bool:
        if seen.made < seen.total:
            return True
        step_id = self.step.step_id
        return bool(round_) and (_failed(step_id, round_).exists() or _paused(step_id, round_).exists())

    def _confirm(self, expected: int, **counts: Any) -> None:
        """Count what was made, last of all, so that whoever counts sub-plans that end need not wait for planning."""
        counts = counts or {"made": F("made")}
        if not SubPlans.objects.filter(step=self.step.step_id, made=expected).update(**counts):
            raise _InOtherHandsError
        mine = Step.objects.filter(
            pk=self.step.step_id,
            state=StepState.RUNNING,
            attempt=self.step.attempt,
            stop_request=StopRequest.NONE,
        )
        # Whoever tells the step to end changes this row, and looks for sub-plans that were made until then.
        if not list(mine.select_for_update(no_key=True).values_list("pk")):
            raise _InOtherHandsError

    # --- planning --------------------------------------------------------------------------------------------

    def _make_at(self, positions: Sequence[int], round_: int) -> int:
        """Make the sub-plans at these positions; returns how many of them could not be planned."""
        wanted = [(position, each) for position, each in self._asked_for(positions)]
        try:
            with transaction.atomic(using=ledger_alias()):
                drafts = [self._draft(each, position, round_) for position, each in wanted]
                failures: list[tuple[ExecutionPlan, dict[str, Any]]] = []
        except Exception as error:
            if is_outage(error):
                raise
            drafts, failures = self._one_by_one(wanted, round_)
        self._effects = store(drafts)
        store_failures(failures)
        return len(failures)

    def _one_by_one(
        self, wanted: Iterable[tuple[int, SubPlan]], round_: int
    ) -> tuple[list[Draft], list[tuple[ExecutionPlan, dict[str, Any]]]]:
        """One of them cannot be planned, so each is planned behind a savepoint of its own."""
        drafts: list[Draft] = []
        failures: list[tuple[ExecutionPlan, dict[str, Any]]] = []
        for position, each in wanted:
            try:
                with transaction.atomic(using=ledger_alias()):
                    drafts.append(self._draft(each, position, round_))
            except Exception as error:
                if is_outage(error):
                    raise
                failures.append((self._row(each, position, round_), describe(error)))
        return drafts, failures

    def _draft(self, wanted: SubPlan, position: int, round_: int) -> Draft:
        draft = Draft(self._row(wanted, position, round_), queue=self.step.queue)
        draft.make(wanted.action_class, wanted.args, dict(wanted.kwargs))
        return draft

    def _row(self, wanted: SubPlan, position: int, round_: int) -> ExecutionPlan:
        if self._plan is None:
            self._plan = ExecutionPlan.objects.get(pk=self.step.plan_id)
        options = TriggerOptions(
            label=wanted.label, priority=self._plan.priority, triggered_by=f"plan {self.step.plan_id}"
        )
        plan = plan_row(wanted.action_class, options)
        plan.parent_step_id, plan.position, plan.round = self.step.step_id, position, round_
        plan.fairness_key = self._plan.fairness_key or own_key(self._plan.pk)  # a family shares its turns
        plan.fairness_weight = self._plan.fairness_weight
        return plan

    def _asked_for(self, positions: Sequence[int]) -> Iterator[tuple[int, SubPlan]]:
        for start, stop in _ranges(positions):
            given: Iterable[Any] = self.action.sub_plans(start, stop)
            made = list(islice(given, stop - start + 1))
            name = type(self.action).__name__
            if len(made) != stop - start or not all(isinstance(each, SubPlan) for each in made):
                raise PlanningError(
                    f"{name}.sub_plans({start}, {stop}) gave {len(made)} things; give exactly {stop - start} "
                    "results of self.sub_plan()."
                )
            yield from zip(range(start, stop), made, strict=True)


def children(step_id: int | OuterRef) -> ExecutionPlanQuerySet:
    """The sub-plans of a step, without those that others have replaced."""
    return ExecutionPlan.objects.filter(parent_step=step_id, position__isnull=False)


def counts(step_id: int) -> SubPlanCounts:
    """How far the sub-plans of a step are."""
    row = SubPlans.objects.filter(step=step_id).first() or SubPlans(step_id=step_id, total=0)
    return SubPlanCounts(
        total=row.total, made=row.made, success=row.success, warning=row.warning, error=row.error,
        cancelled=row.cancelled, paused=children(step_id).filter(state=PlanState.PAUSED).count(),
        moving=children(step_id).exclude(state__in=RESTING_PLAN_STATES).count(),
    )  # fmt: skip


def records(step_id: int, check: Callable[[], None]) -> Iterator[SubPlanRecord]:
    """The sub-plans of a step by position, in portions."""
    last = -1
    while portion := outlasting(partial(_records, step_id, last), check):
        yield from portion
        last = portion[-1].position


def _records(step_id: int, after: int) -> list[SubPlanRecord]:
    plans = list(children(step_id).filter(position__gt=after).order_by("position")[:PORTION])
    keys = [plan.pk for plan in plans]
    entries = {row.plan_id: row for row in Action.objects.filter(plan__in=keys, number=1)}
    failed = Step.objects.filter(plan__in=keys, error__isnull=False).order_by("plan", "-number")
    errors = dict(failed.values_list("plan", "error"))
    nothing = Action(input={}, output={})
    return [
        SubPlanRecord(
            position=plan.position or 0, plan_id=str(plan.pk), state=plan.state, result=plan.result,
            input=unseal(entries.get(plan.pk, nothing).input), output=unseal(entries.get(plan.pk, nothing).output),
            error=plan.error or errors.get(plan.pk),
        )
        for plan in plans
    ]  # fmt: skip


def cancel_children(step: Claimed) -> None:
    """Cancel the sub-plans of this step that have not ended, some hundreds in each transaction."""
    living = children(step.step_id).live().order_by("pk")
    portion = list(living.values_list("pk", flat=True)[:PORTION])
    while portion:
        end_many(portion, StopRequest.CANCEL, by=f"plan {step.plan_id}", reason="the time of its parent was over")
        portion = list(living.filter(pk__gt=portion[-1]).values_list("pk", flat=True)[:PORTION])


def _failed(step_id: int, round_: int) -> ExecutionPlanQuerySet:
    """Those that ended with an error in an earlier round."""
    return children(step_id).filter(state=PlanState.STOPPED, result=PlanResult.ERROR, round__lt=round_)


def _paused(step_id: int, round_: int) -> ExecutionPlanQuerySet:
    return children(step_id).filter(state=PlanState.PAUSED, round__lt=round_)


def _ranges(positions: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Positions in ascending order as (start, stop)."""
    start = previous = None
    for position in positions:
        if previous is not None and position != previous + 1:
            yield start, previous + 1  # type: ignore[misc] # both are set together
            start = None
        start = position if start is None else start
        previous = position
    if start is not None and previous is not None:
        yield start, previous + 1
