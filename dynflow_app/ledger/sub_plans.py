"""Sub-plans: when some come to rest their parent is told, and its step goes on if that waited for it.

Whoever lets a sub-plan come to rest writes an envelope about it in the same transaction; the leader adds them up here.
So workers that end sub-plans of one parent do not wait for each other.

Why no wake-up is lost: the step waits by writing, under the lock of its `SubPlans` row, how few may move, and then
counts them itself. Sub-plans that came to rest before that count are seen by it. Those that come to rest later have
their envelope read later, by a leader that takes the same lock and finds the step waiting. As long as envelopes are
unread, a step none of whose sub-plans moves is not woken: it could not know how they ended.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta

from django.db.models import F
from django.db.models.functions import Now

from dynflow_app.ledger.effects import Effects
from dynflow_app.ledger.ending import PAUSED
from dynflow_app.ledger.steps import make_these_ready
from dynflow_app.messages import EnvelopeKind
from dynflow_app.models import Envelope, ExecutionPlan, Step, SubPlans
from dynflow_app.models.base import execute, is_any_of, ledger_connection
from dynflow_app.states import Alarm, Cause, StepState

GATHERING = timedelta(seconds=0.02)
"""For so long further places may become free before a step is woken to fill them: one that fills many at a time costs
less."""
MOST_FULL = 0.5
"""Share of the places that are taken, up to which nobody waits for further ones."""
_PLAN = ExecutionPlan._meta.db_table
_SUB_PLANS = SubPlans._meta.db_table
_ENVELOPE = Envelope._meta.db_table
KIND = EnvelopeKind.SUB_PLANS.value


def lock(step_ids: Collection[int]) -> None:
    """Take the locks of these steps' rows, in the order of their keys."""
    rows = SubPlans.objects.filter(step__in=step_ids).order_by("step_id")
    list(rows.select_for_update(no_key=True).values_list("step_id"))


def add_up(tallies: Sequence[Envelope], effects: Effects) -> None:
    """Count the sub-plans in these envelopes, and let steps go on by it. In the leader's transaction, which has
    deleted the envelopes."""
    by_step: dict[int, dict[str, int]] = {}
    for tally in tallies:
        if tally.step_id is not None:
            sums = by_step.setdefault(tally.step_id, {})
            for result, number in tally.payload.items():
                sums[result] = sums.get(result, 0) + number
    if not by_step:
        return
    lock(by_step)
    for step_id, sums in by_step.items():
        sums.pop(PAUSED, None)
        if sums:
            SubPlans.objects.filter(step=step_id).update(**{name: F(name) + number for name, number in sums.items()})
    _wake(by_step, effects)


def wait(wakes_below: Mapping[int, int], effects: Effects) -> None:
    """Let these suspended steps go on when fewer of their sub-plans move than given, which may be so by now.

    Their rows must be locked.
    """
    for step_id, below in wakes_below.items():
        SubPlans.objects.filter(step=step_id).update(wakes_below=below)
    _wake(wakes_below, effects)


def wake_forgotten(effects: Effects) -> None:
    """Let steps go on that wait for sub-plans that are gone."""
    waiting = SubPlans.objects.filter(wakes_below__isnull=False, step__state=StepState.SUSPENDED)
    step_ids = list(waiting.values_list("step_id", flat=True))
    forgotten = list(_free_places(step_ids)) if step_ids else []
    if forgotten:
        lock(forgotten)
        _wake(forgotten, effects)


def is_uncounted(step_id: int) -> bool:
    """Whether sub-plans of this step came to rest that the leader has not counted yet; then it will wake the step."""
    return Envelope.objects.filter(step_id=step_id, kind=KIND).exists()


def _free_places(step_ids: Collection[int]) -> dict[int, float]:
    """Those of these waiting steps that may go on, with the share of their places that is taken."""
    condition, parameters = is_any_of(ledger_connection(), "step_id", step_ids)
    moving = f"FROM {_PLAN} WHERE parent_step_id = {_SUB_PLANS}.step_id AND state <> 'stopped' AND state <> 'paused'"
    sql = f"""
        SELECT step_id, wakes_below, CASE
            WHEN wakes_below > 1 THEN (SELECT COUNT(*) {moving})
            WHEN EXISTS (SELECT 1 {moving}) THEN 1 ELSE 0 END,
            EXISTS (SELECT 1 FROM {_ENVELOPE} WHERE {_ENVELOPE}.step_id = {_SUB_PLANS}.step_id AND kind = '{KIND}')
        FROM {_SUB_PLANS} WHERE {condition} AND wakes_below IS NOT NULL
    """  # noqa: S608 - names are ours
    return {
        step_id: moving / below
        for step_id, below, moving, is_uncounted in execute(sql, parameters)
        if moving < below and not (moving == 0 and is_uncounted)
    }


def _wake(step_ids: Collection[int], effects: Effects) -> None:
    free = _free_places(step_ids)
    if not free:
        return
    SubPlans.objects.filter(step__in=free).update(wakes_below=None)
    at_once = [step_id for step_id, share in free.items() if share <= MOST_FULL]
    if soon := free.keys() - set(at_once):
        places = Step.objects.filter(id__in=soon, state=StepState.SUSPENDED)
        places.update(alarm=Alarm.WAKE, alarm_at=Now() + GATHERING)
        effects.rings_orchestrator = True
    effects.became_ready(make_these_ready(at_once, frm=StepState.SUSPENDED, cause=Cause.WAKE), is_new=False)
