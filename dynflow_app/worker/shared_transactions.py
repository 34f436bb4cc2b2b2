"""Steps that share a transaction with the ledger, so that their effects and their record are one.

A transaction costs more than most of these steps. So a thread that has run one takes the next that waits, for a moment,
and runs it in the same transaction, behind a savepoint: one that fails takes nothing with it. If the transaction fails
as a whole, each runs again alone.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from django.db import transaction

from dynflow_app import clock, probes
from dynflow_app.exceptions import WrongStateError
from dynflow_app.ledger import turning
from dynflow_app.ledger.claiming import outputs_for
from dynflow_app.ledger.effects import Effects
from dynflow_app.ledger.finalizing import claim_along, load_phase
from dynflow_app.ledger.recording import record, record_failed_phase
from dynflow_app.ledger.sessions import guard_shared_transaction
from dynflow_app.messages import Claimed, EndedAs, Outcome
from dynflow_app.models import ExecutionPlan, Step
from dynflow_app.models.base import is_outage, is_transient, ledger_alias, open_session
from dynflow_app.models.world import World
from dynflow_app.payloads import arguments
from dynflow_app.planning import Draft, store_planned
from dynflow_app.states import DEAF_ALARMS, Alarm, Phase, StepState, StopRequest
from dynflow_app.worker.context import StepIO
from dynflow_app.worker.executor import Outputs, execute, known_class
from dynflow_app.worker.invocation import Invocation
from dynflow_app.worker.outage import require_connection
from dynflow_app.worker.outcomes import blank, cancelled, ended_early, failure, handed_back, timed

TOGETHER = 0.05
"""Seconds after which a transaction takes no further step: so long may what they write stay locked."""
MOST_TOGETHER = 50
MOST_AT_ONCE = 2
"""Transactions under way, as long as they are short."""
PATIENCE = 1.0
"""Seconds after which the pump looks around even if nothing happens."""


@dataclass(slots=True)
class SelfRecorded:
    """The end of steps that share their transaction with the ledger."""

    steps: list[Claimed] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    """What is left to record."""
    effects: Effects = field(default_factory=Effects)
    """Of what has been."""
    seconds: float = 0.0
    """How long all of it took."""


@dataclass(frozen=True, slots=True)
class SharedWork:
    """A plan phase, a finalize phase or an atomic step, to be run by one worker."""

    step: Claimed
    outputs: Outputs
    invocation: Invocation
    world: World
    io: StepIO

    def run(self, more: Callable[[], SharedWork | None]) -> SelfRecorded:
        """Run it, and for a moment what `more` gives, in one transaction; whatever happens, say how they ended."""
        began = clock.monotonic()
        works = [self]
        undone: list[tuple[SharedWork, _UndoneError]] = []
        session = None
        try:
            session = open_session()
            ended = _together(works, more, undone)
        except Exception as error:
            ended = _failed(self, error, session) if len(works) == 1 else _one_by_one(works)
        else:  # it is committed: whatever happens from here on must not repeat it
            probes.reached(probes.Probe.SHARED_WORK_COMMITTED)
            for work, why in undone:
                _add(ended, _left(work, why))
        ended.seconds = clock.monotonic() - began
        return ended


class SharedQueue:
    """Steps that wait to share a transaction. A few transactions are under way at a time, so that meanwhile others
    gather for the next one; more if those take long."""

    def __init__(self, submit: Callable[[list[SharedWork]], None]) -> None:
        self._submit = submit
        self._waiting: list[SharedWork] = []
        self._under_way = 0
        self._began_at = 0.0

    def put(self, work: SharedWork) -> None:
        """Let it wait for `start_some`."""
        self._waiting.append(work)

    def start_some(self) -> float:
        """Start what may be started; returns the seconds until this should be asked again, at most."""
        while self._waiting:
            rest = TOGETHER - (clock.monotonic() - self._began_at)
            if self._under_way >= MOST_AT_ONCE:
                if rest > 0:
                    return rest
                self._under_way = 0  # those take long, or were taken back
            share = -(-len(self._waiting) // max(1, MOST_AT_ONCE - self._under_way))
            part = self._waiting[: min(MOST_TOGETHER, share)]
            del self._waiting[: len(part)]
            self._submit(part)
            self._under_way += 1
            self._began_at = clock.monotonic()
        return PATIENCE

    def one_ended(self) -> None:
        """A transaction is over."""
        self._under_way = max(0, self._under_way - 1)
        self.start_some()

    def withdraw(self) -> list[SharedWork]:
        """Take back what has not started."""
        waiting, self._waiting = self._waiting, []
        return waiting


class _UndoneError(Exception):
    """A step did not succeed: what it wrote has to go. Carries the outcomes of its phase, the last of which says
    why."""

    def __init__(self, outcomes: list[Outcome]) -> None:
        super().__init__("rolled back")
        self.outcomes = outcomes


def _together(
    works: list[SharedWork],
    more: Callable[[], SharedWork | None],
    undone: list[tuple[SharedWork, _UndoneError]],
) -> SelfRecorded:
    """Appends to `works` what it takes, and to `undone` what did not succeed."""
    until = clock.monotonic() + TOGETHER
    ended = SelfRecorded()
    outcomes: list[Outcome] = []
    with transaction.atomic(using=ledger_alias()):
        guard_shared_transaction(works[0].world.pk)
        outcomes += _perform(works[0])
        while len(works) < MOST_TOGETHER and clock.monotonic() < until and (work := more()) is not None:
            works.append(work)
            try:
                with transaction.atomic(using=ledger_alias()):
                    outcomes += _perform(work)
            except _UndoneError as error:
                undone.append((work, error))
            except WrongStateError:  # its fate is in other hands
                continue
        ended.effects = record_outcomes(outcomes, worker=str(works[0].world))
        if ended.effects.refused:
            raise WrongStateError("A step was taken from the worker that ran it; its work is rolled back.")
    ended.steps = [work.step for work in works]
    return ended


def _one_by_one(works: list[SharedWork]) -> SelfRecorded:
    ended = SelfRecorded()
    for work in works:
        session = None
        try:
            session = open_session()
            _add(ended, _together([work], lambda: None, []))
        except Exception as error:
            _add(ended, _failed(work, error, session))
    return ended


def _failed(work: SharedWork, error: Exception, session: Any) -> SelfRecorded:
    """The end of a step that was alone in a transaction of that session, which failed."""
    if isinstance(error, _UndoneError):
        return _left(work, error)
    if is_transient(error, session):  # with the session went all that was done
        return SelfRecorded([work.step], [handed_back(work.step)])
    # Such as a constraint that is checked at the commit. If the step was taken from us, this is refused; if it was the
    # step itself that did it (it halted its plan, say), that is rolled back, and nobody else would end it.
    return SelfRecorded([work.step], [failure(work.step, error, clock.monotonic())])


def _left(work: SharedWork, undone: _UndoneError) -> SelfRecorded:
    """What is to be recorded of a step that was rolled back."""
    started, ended = undone.outcomes[0], undone.outcomes[-1]
    if work.step.phase != Phase.FINALIZE:
        return SelfRecorded([work.step], [ended])
    if ended.alarm == Alarm.PARKED or ended.state is StepState.CANCELLED:  # the phase waits, or ends, as one
        started.state, started.alarm, started.alarm_in = ended.state, ended.alarm, ended.alarm_in
        started.ended_as, started.error, started.output = ended.ended_as, ended.error, None
        return SelfRecorded([work.step], [started])
    try:
        with transaction.atomic(using=ledger_alias()):
            effects = record_failed_phase(started, ended, worker=str(work.world))
    except Exception as error:
        if is_outage(error):
            return SelfRecorded([work.step], [handed_back(work.step)])
        return SelfRecorded([work.step], [failure(work.step, error, clock.monotonic())])
    return SelfRecorded([work.step], [], effects)


def _add(ended: SelfRecorded, other: SelfRecorded) -> None:
    ended.steps += [step for step in other.steps if step not in ended.steps]
    ended.outcomes += other.outcomes
    ended.effects.add(other.effects)


def record_outcomes(outcomes: list[Outcome], *, worker: str) -> Effects:
    """In the transaction that ran them; in one statement, if that can be."""
    if turning.can_turn(outcomes):
        with suppress(turning.UnusualError), transaction.atomic(using=ledger_alias()):
            return turning.turn(outcomes, worker=worker)[0]
    return record(outcomes, worker=worker)


# --- in the transaction ------------------------------------------------------------------------------------------


def _perform(work: SharedWork) -> list[Outcome]:
    """Run user code; returns the outcomes to record. Raises `_UndoneError`."""
    if work.step.phase == Phase.PLAN:
        return [_plan(work)]
    if work.step.phase == Phase.FINALIZE:
        return _finalize(work)
    outcome = execute(work.step, work.outputs, work.invocation, work.io)
    if outcome.state not in (StepState.SUCCESS, StepState.SUSPENDED) or outcome.alarm in DEAF_ALARMS:
        require_connection()
        raise _UndoneError([outcome])
    return [outcome]


def _finalize(work: SharedWork) -> list[Outcome]:
    outcomes: list[Outcome] = []
    for step in load_phase(work.step):
        outcomes.append(execute(step, outputs_for([step]).get(step.plan_id), work.invocation, work.io))
        if outcomes[-1].state is not StepState.SUCCESS:
            require_connection()
            raise _UndoneError(outcomes)
    probes.reached(probes.Probe.FINALIZE_RETURNED)
    claim_along(outcomes, str(work.world))
    return outcomes


def _plan(work: SharedWork) -> Outcome:
    """The plan phase of a plan that was triggered before."""
    started = clock.monotonic()
    try:
        work.invocation.check()
        draft = Draft(ExecutionPlan.objects.get(pk=work.step.plan_id))
        args, kwargs = arguments.decode(work.step.input)
        draft.make(known_class(work.step), args, kwargs)
    except BaseException as error:
        if is_transient(error):
            raise
        raise _UndoneError([ended_early(work.step, error, started, work.invocation, None, None)]) from error
    store_planned(draft, work.step.action_id)
    # The plan is locked now: who cancels it later finds it planned, who did before has told this step.
    if Step.objects.filter(pk=work.step.step_id).exclude(stop_request=StopRequest.NONE).exists():
        raise _UndoneError([cancelled(work.step, "it was being planned", started)])
    return timed(blank(work.step, StepState.SUCCESS, EndedAs.SUCCEEDED), started)
