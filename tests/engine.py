"""Drives plans in the test's own thread: the orchestrator's inbox and a worker's pump take turns, without processes.

User code runs in the pump's threads with connections of their own, so tests need
``@pytest.mark.django_db(transaction=True)``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta

from django.db import connection, connections
from django.db.models import F

from dynflow_app.models import Envelope, Event, ExecutionPlan, Leadership, Occurrence, Schedule, Step, WorldKind
from dynflow_app.orchestrator import inbox, schedules, timers
from dynflow_app.processes.registration import register
from dynflow_app.states import StepState
from dynflow_app.transport import known_queues
from dynflow_app.worker.pump import Pump

FAR_AWAY = timedelta(days=36500)
ROUNDS = 50
"""More turns than any plan of a test needs: whoever takes more goes round in circles."""


class Engine:
    """One orchestrator and one worker, taking turns."""

    def __init__(self) -> None:
        """Lead, and register as a process that may claim steps."""
        self.term = Leadership.objects.take()
        self.world = register(WorldKind.EXECUTOR)

    def decide(self) -> int:
        """Let the orchestrator read its inbox until it is empty; returns how many envelopes there were."""
        total = 0
        for _ in range(ROUNDS):
            read = inbox.run_once(self.term) + timers.fire_alarms(self.term)
            read += timers.fire_limits(self.term) + schedules.run_once(self.term)
            if not read:
                return total
            total += read
        raise AssertionError(f"the inbox is never empty: {list(Envelope.objects.all()[:5])}")

    def pass_time(self, seconds: float) -> None:
        """Let every timer be `seconds` nearer; what is due then happens when the engine runs."""
        step = timedelta(seconds=seconds)
        Step.objects.filter(alarm_at__isnull=False).update(alarm_at=F("alarm_at") - step)
        Step.objects.filter(deadline_at__isnull=False).update(deadline_at=F("deadline_at") - step)
        Event.objects.update(due_at=F("due_at") - step)
        Envelope.objects.update(due_at=F("due_at") - step)
        for part in (FAR_AWAY + step, -FAR_AWAY):  # in one go they would collide with each other
            Occurrence.objects.update(due_at=F("due_at") - part)
        for name in ("starts_at", "ends_at", "due_at", "next_at"):
            Schedule.objects.exclude(**{name: None}).update(**{name: F(name) - step})
        ExecutionPlan.objects.update(start_at=F("start_at") - step, start_before=F("start_before") - step)

    def work(self, *queues: str, threads: int = 4) -> int:
        """Run what is ready on `queues` (default: all), and what becomes ready by it; returns how many steps."""
        return Pump(self.world, queues or all_queues(), threads=threads).run(burst=True)

    @contextmanager
    def working(self, *, threads: int = 4, learnt: float | None = None) -> Iterator[Pump]:
        """As `work`, in a thread of its own, while the test does something; until nothing is ready or runs.

        The worker may have `learnt` before how many seconds a step takes; the shorter, the more it claims ahead.
        """
        pump = Pump(self.world, all_queues(), threads=threads)
        pump._appetite.seconds = learnt or pump._appetite.seconds
        with ThreadPoolExecutor(1) as pool:
            work = pool.submit(_run_to_the_end, pump)
            yield pump
        work.result()

    def work_side_by_side(self) -> int:
        """As `work`, by two processes at once."""
        other = Pump(register(WorldKind.EXECUTOR), all_queues(), threads=2)
        thread = threading.Thread(target=_run_to_the_end, args=(other,))
        thread.start()
        recorded = Pump(self.world, all_queues(), threads=2).run(burst=True)
        thread.join()
        return recorded + other.recorded

    def work_at_most(self, *, seconds: float) -> int:
        """As `work`, but not for ever, for what may never come to rest."""
        return Pump(self.world, all_queues(), threads=4).run(burst=True, until=time.monotonic() + seconds)

    def run(self, plan: ExecutionPlan | None = None, *, side_by_side: bool = False) -> ExecutionPlan | None:
        """Take turns until neither has anything to do. Refreshes and returns `plan`."""
        work = self.work_side_by_side if side_by_side else self.work
        for _ in range(ROUNDS):
            if not self.decide() + work():
                break
        else:
            raise AssertionError(f"the engine never comes to rest: {names_by_state(plan) if plan else ''}")
        assert not Envelope.objects.due().exists(), "an envelope was left unread"
        if plan is not None:
            plan.refresh_from_db()
        return plan


def all_queues() -> list[str] | None:
    """By name on PostgreSQL, as workers do; elsewhere all at once, as the in-process executor does."""
    return sorted(known_queues() or ()) if connection.vendor == "postgresql" else None


def _run_to_the_end(pump: Pump) -> None:
    try:
        pump.run(burst=True)
    finally:
        connections.close_all()


def names_by_state(plan: ExecutionPlan, phase: str = "run") -> dict[str, list[str]]:
    """State to the names (from the inputs) of the steps in it, in planning order."""
    found: dict[str, list[str]] = {}
    steps = Step.objects.filter(plan=plan, phase=phase).select_related("action").order_by("number")
    for step in steps:
        found.setdefault(str(step.state), []).append(step.action.input.get("name", step.action.class_name))
    return found


def step_named(plan: ExecutionPlan, name: str, phase: str = "run") -> Step:
    """The step of the action whose input has that name."""
    return Step.objects.select_related("action").get(plan=plan, phase=phase, action__input__name=name)


def ready(plan: ExecutionPlan) -> list[str]:
    """Names of the run steps that wait for a worker."""
    return names_by_state(plan).get(StepState.READY, [])


def outcome(plan: ExecutionPlan) -> str:
    """State and result as people say them: ``stopped/success``."""
    plan.refresh_from_db()
    return f"{plan.state}/{plan.result}"
