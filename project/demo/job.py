"""The main job: a command on all hosts, followed to its end the way ``manage.py rex run`` does."""

from __future__ import annotations

import shlex
import time
import uuid
from collections import Counter
from pathlib import Path

from django.db.models import Q

from dynflow_app.models import ExecutionPlan, Step
from dynflow_app.states import PlanState
from dynflow_app.triggering import TriggerOptions, trigger
from project.demo.failure import DemoError
from project.demo.progress import Progress, Sabotage
from project.demo.screen import Screen
from project.demo.system import System, current_epoch
from project.demo.verdict import Outcome
from project.rex.actions import RunOnHosts
from project.rex.following import Follower, FollowTimeoutError, PlanStuckError
from project.rex.inventory import Host
from project.rex.models import Report

TIMEOUT = 180.0
LOOK_INTERVAL = 0.1
PREFIX = "ran-"

COMMAND = """\
kernel=$(uname -sr)
free=$(df -Pk / | awk 'NR == 2 {{ print int($4 / 1024) " MB free" }}')
sleep 0.15
printf '%s\\n' "$REX_HOST" >> {file}
echo "$kernel, $free, groups $REX_GROUPS"
"""
"""Looks around a little, takes its time, and leaves one line in a file: the proof that it ran, and how often."""


class Job:
    """One run of the command on some hosts."""

    def __init__(self, hosts: list[Host], system: System, screen: Screen, folder: Path) -> None:
        """Write the proofs to a new file in ``folder``."""
        for old in folder.glob(f"{PREFIX}*.txt"):
            old.unlink()
        self.effects = folder / f"{PREFIX}{uuid.uuid4().hex[:8]}.txt"
        self._hosts, self._system, self._screen = hosts, system, screen

    def run(self, sabotage: Sabotage | None = None) -> Outcome:
        """Trigger, follow, and collect what came of it. Raises `DemoError` if it does not end."""
        epoch, begin = current_epoch(), time.monotonic()
        plan = self._trigger()
        self._screen.line(f"Run a command on {len(self._hosts)} hosts: plan {plan.pk}")
        self._follow(plan, sabotage)
        seconds = time.monotonic() - begin
        self._system.wait_until_losses_are_noticed()
        report = Report.objects.filter(plan_id=plan.pk).first()
        if report is None:
            raise DemoError(f"Plan {plan.pk} ended without a report, with the result {plan.result}.")
        return Outcome(
            plan_id=str(plan.pk),
            report_id=report.pk,
            state=plan.state,
            result=plan.result,
            seconds=seconds,
            steps=Step.objects.filter(Q(plan=plan) | Q(plan__parent_step__plan=plan)).count(),
            hosts=tuple(host.name for host in self._hosts),
            results=tuple(report.lines),
            runs=Counter(self.effects.read_text().split()) if self.effects.exists() else Counter(),
            workers_lost=self._system.lost_workers(),
            hand_overs=current_epoch() - epoch,
        )

    def _trigger(self) -> ExecutionPlan:
        command = COMMAND.format(file=shlex.quote(str(self.effects)))
        label = f"look around on {len(self._hosts)} hosts"
        return trigger(RunOnHosts, self._hosts, command, options=TriggerOptions(label=label, triggered_by="demo"))

    def _follow(self, plan: ExecutionPlan, sabotage: Sabotage | None) -> None:
        display = Progress(self._screen, self._system, sabotage)
        follower = Follower(plan, display, TIMEOUT, sleep=lambda _: time.sleep(LOOK_INTERVAL))
        try:
            follower.follow()
        except FollowTimeoutError as error:
            raise DemoError(f"Plan {plan.pk} has not ended within {TIMEOUT:g} s.") from error
        except PlanStuckError as error:
            raise DemoError(f"Plan {plan.pk} is paused: {error}") from error
        finally:
            display.close()


def interrupted_plans() -> int:
    """How many plans of earlier runs go on now, because those runs were interrupted."""
    return ExecutionPlan.objects.filter(parent_step=None, state__in=(PlanState.PLANNED, PlanState.RUNNING)).count()
