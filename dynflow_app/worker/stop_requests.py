"""Requests that steps stop: found in the ledger, or because their time is over; passed on to the code that runs.

First the code is asked. If it was to be aborted, or its time is over, it is made to end. If that does not help, the
step ends without it, and says so: its thread may go on until its process is replaced, but nobody hears of it any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from dynflow_app import clock
from dynflow_app.exceptions import Abort, Cancel, StepTimeoutError
from dynflow_app.messages import Outcome
from dynflow_app.models import Step
from dynflow_app.states import StepState, StopRequest
from dynflow_app.worker.invocation import Invocation
from dynflow_app.worker.outcomes import cancelled, failure

LOOK_INTERVAL = 1.0
"""Seconds between looks into the ledger, while something runs."""
GRACE = 5.0
"""Seconds from asking to forcing when the time of a step is over, and from forcing to giving up."""


@dataclass(slots=True)
class Pending:
    """That one invocation ends."""

    invocation: Invocation
    since: float = field(default_factory=clock.monotonic)
    forced_at: float | None = None


class StopRequests:
    """Those that one worker knows of."""

    def __init__(self) -> None:
        self._pending: dict[int, Pending] = {}
        self._looked_at = clock.monotonic()  # what is claimed now was told nothing yet

    def is_due(self) -> bool:
        """Whether it is time for another look."""
        return clock.monotonic() - self._looked_at >= LOOK_INTERVAL

    def look(self, running: Mapping[int, Invocation]) -> list[Outcome]:
        """Pass requests on to these invocations. Returns outcomes for code that cannot be ended. One query."""
        self._looked_at = clock.monotonic()
        requests = Step.objects.filter(pk__in=list(running), state=StepState.RUNNING).exclude(stop_request="")
        requests = requests.filter(sub_plans=None)  # those see to it themselves: they end after their sub-plans
        for step_id, request in requests.values_list("id", "stop_request"):
            if step_id in running:
                self._ask(running[step_id], Abort() if request == StopRequest.ABORT else Cancel())
        for invocation in running.values():
            if invocation.deadline is not None and clock.monotonic() > invocation.deadline:
                self._ask(invocation, Abort() if isinstance(invocation.stop_with, Cancel) else StepTimeoutError())
        self._pending = {
            step_id: pending for step_id, pending in self._pending.items() if running.get(step_id) is pending.invocation
        }
        return list(self._insist())

    def end(self, invocations: Iterable[Invocation]) -> None:
        """Have this code end as if it were aborted; nobody waits for what it would say."""
        for invocation in invocations:
            self._ask(invocation, Abort("the ledger has taken this step back"))

    def _ask(self, invocation: Invocation, error: BaseException) -> None:
        invocation.ask(error)
        self._pending.setdefault(invocation.step.step_id, Pending(invocation))

    def _insist(self) -> Iterable[Outcome]:
        for pending in self._pending.values():
            invocation, now = pending.invocation, clock.monotonic()
            if isinstance(invocation.stop_with, Cancel) or invocation.is_abandoned:
                continue
            if pending.forced_at is None and (invocation.is_forced or now - pending.since > GRACE):
                pending.forced_at = now
                if not invocation.is_forced:
                    invocation.force()
            elif pending.forced_at is not None and now - pending.forced_at > GRACE:
                invocation.is_abandoned = True
                yield _given_up(invocation, pending.since)


def _given_up(invocation: Invocation, since: float) -> Outcome:
    how = f"{invocation.how}, but the code goes on; its process will be replaced"
    if isinstance(invocation.stop_with, Abort):
        return cancelled(invocation.step, how, since)
    return failure(invocation.step, StepTimeoutError(f"Its time is over: {how}."), since)
