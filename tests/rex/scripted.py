"""The real engine in small steps: it works whenever a follower sleeps, and workers die on demand."""

from __future__ import annotations

from collections.abc import Callable

from django.db import transaction

from dynflow_app import probes
from dynflow_app.ledger.claiming import claim
from dynflow_app.ledger.recovery import reclaim
from dynflow_app.models import ExecutionPlan, Step, WorldKind
from dynflow_app.processes.registration import register
from dynflow_app.states import Phase, StepState
from dynflow_app.worker.pump import Pump
from tests.engine import Engine, all_queues


def make_sub_plans(engine: Engine) -> None:
    """Let a worker run what is ready until sub-plans are there, and end before it begins any of them."""
    pump = Pump(engine.world, all_queues(), threads=1)
    probes.install(probes.Probe.SUB_PLANS_MADE, pump.stop)
    try:
        pump.run(burst=True)
    finally:
        probes.install(probes.Probe.SUB_PLANS_MADE, None)


def lose(hosts: int) -> list[str]:
    """Let a worker take the next `hosts` sub-plans that are ready, and vanish with them; returns their labels."""
    ready = Step.objects.filter(state=StepState.READY, phase=Phase.RUN)
    if not ready.exists() or ready.filter(plan__parent_step=None).exists():
        return []
    world = register(WorldKind.WORKER)
    with transaction.atomic():
        claimed = claim(world.pk, ["rex"], hosts, worker=str(world))
    with transaction.atomic():
        reclaim(world.pk, worker=str(world))
    labels = ExecutionPlan.objects.filter(pk__in=[step.plan_id for step in claimed]).values_list("label", flat=True)
    return sorted(labels)


class Turns:
    """Clock and sleep of a follower; each sleep is a turn of the engine. Time passes only when one sleeps."""

    def __init__(self, engine: Engine, dying: int = 0, instead: Callable[[], None] | None = None) -> None:
        """A worker dies with the first `dying` hosts. With `instead`, that is done in place of a turn."""
        self.engine, self.dying, self.instead = engine, dying, instead
        self.lost: list[str] = []
        self.now = 0.0

    def clock(self) -> float:
        """Return the seconds slept so far."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let the engine do its next bit of work."""
        self.now += seconds
        if self.instead is not None:
            self.instead()
            return
        self.engine.decide()
        if self.dying and not self.lost:
            make_sub_plans(self.engine)
            self.lost = lose(self.dying)
            self.engine.decide()
        self.engine.work()
