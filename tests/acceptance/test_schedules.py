"""Schedules with real processes: no due time is acted on twice and none is forgotten, whoever is killed."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise

import pytest

from dynflow_app import Every, control
from dynflow_app.models import ExecutionPlan, Leadership, Occurrence, Schedule
from dynflow_app.states import OccurrenceOutcome
from tests.acceptance.test_crashes import FAST
from tests.support import ManageProcess, Processes, wait_until
from tests.testapp.journal import Journal
from tests.testapp.repeated import TAKES, Tick

pytestmark = [pytest.mark.servers, pytest.mark.processes]

SECONDS = int(os.environ.get("SCHEDULE_SECONDS", "16"))
"""How long the schedule of every second is watched: ``SCHEDULE_SECONDS=60 pytest -k hand_over`` for a whole minute."""
SETTINGS = json.dumps({**json.loads(FAST), "ACTIONS_MODULE": "repeated", "DECLARE_SCHEDULES": True})
A_SECOND = timedelta(seconds=1)
HAND_OVER = timedelta(seconds=4)
"""At most: the lease of these tests, and a look of the standby."""


def start(processes: Processes, *arguments: str, **environ: str) -> ManageProcess:
    return processes.manage(*arguments, DYNFLOW_SETTINGS=SETTINGS, **environ)


def occurrences() -> list[Occurrence]:
    return list(Occurrence.objects.order_by("due_at").select_related("plan"))


def wait_for_occurrences(number: int) -> None:
    wait_until(lambda: Occurrence.objects.count() >= number, timeout=number + 20, describe=f"{number} occurrences")


def wait_until_all_stopped() -> None:
    wait_until(lambda: not ExecutionPlan.objects.exclude(state="stopped").exists(), describe="all plans stopped")


def gaps(moments: Sequence[datetime]) -> set[timedelta]:
    return {after - before for before, after in pairwise(moments)}


@pytest.mark.timeout(SECONDS + 60)
def test_every_second_with_a_hand_over_in_the_middle(processes: Processes, journal: Journal) -> None:
    # given a schedule of every second, two orchestrators, and a worker that declares it
    orchestrators = [start(processes, "dynflow_orchestrator") for _ in range(2)]
    start(processes, "rqworker", "default")
    wait_for_occurrences(SECONDS // 2)

    # when the leader is killed in the middle
    leader = wait_until(lambda: leading(orchestrators), describe="one of them leads")
    killed_at = occurrences()[-1].due_at
    leader.kill()
    wait_for_occurrences(SECONDS)
    control.pause_schedule(Schedule.objects.get())
    wait_until_all_stopped()

    # then every second was decided about, once, and made one plan that ran once
    found = occurrences()
    assert gaps([each.due_at for each in found]) == {A_SECOND}
    fired = [each for each in found if each.outcome == OccurrenceOutcome.FIRED]
    assert {each.plan.pk for each in fired} == set(ExecutionPlan.objects.values_list("pk", flat=True))
    assert len({each.plan.pk for each in fired}) == len(fired)
    begun = Counter(line.split()[1] for line in journal.lines if line.startswith("begin"))
    assert begun == {str(each.plan.pk): 1 for each in fired}

    # and only those of the hand-over were late or missed: of these the latest was made up for
    late = [each for each in found if each.decided_at - each.due_at > A_SECOND]
    assert all(killed_at < each.due_at <= killed_at + HAND_OVER for each in late)
    assert max(each.decided_at - each.due_at for each in found) < HAND_OVER + A_SECOND
    missed = [each for each in found if each.outcome == OccurrenceOutcome.MISSED]
    assert all(killed_at < each.due_at <= killed_at + HAND_OVER for each in missed)
    after_missed = [found[n + 1].outcome for n, each in enumerate(found) if each in missed]
    assert after_missed.count(OccurrenceOutcome.FIRED) <= 1
    counts = Counter(each.outcome for each in found)
    lateness = sorted((each.decided_at - each.due_at).total_seconds() for each in fired)
    middle, most = lateness[len(lateness) // 2], lateness[-1]
    print(f"of {len(found)}: {dict(counts)}; late by {middle:.3f} s, at most {most:.3f} s")  # noqa: T201 - the figures


def leading(orchestrators: Sequence[ManageProcess]) -> ManageProcess | None:
    """Which of these has announced last that it leads."""
    epoch = Leadership.objects.get().epoch
    return next((each for each in orchestrators if f"leading: took the lease (epoch {epoch})" in each.output), None)


@pytest.mark.parametrize("deed", ["kill@1", "kill@2", "raise@1", "stop@1"])
def test_an_orchestrator_that_breaks_while_it_acts_repeats_nothing(
    processes: Processes, journal: Journal, deed: str
) -> None:
    # given an orchestrator that breaks after it has written the plan, before the commit; and a standby
    start(processes, "dynflow_orchestrator", DYNFLOW_PROBES=f"schedules_fired={deed}")
    start(processes, "rqworker", "default")
    wait_until(Schedule.objects.exists, describe="declared")
    start(processes, "dynflow_orchestrator")

    # when plans were made after that, then every due time was decided about, and each plan ran once
    wait_until(lambda: Occurrence.objects.filter(outcome="fired").count() >= 3, timeout=30, describe="three plans")
    control.pause_schedule(Schedule.objects.get())
    wait_until_all_stopped()
    found = occurrences()
    assert gaps([each.due_at for each in found]) == {A_SECOND}
    fired = [each.plan for each in found if each.plan is not None]
    assert len(fired) == len(set(fired)) == ExecutionPlan.objects.filter(pk__in=[plan.pk for plan in fired]).count()
    assert set(Counter(line for line in journal.lines if line.startswith("begin")).values()) == {1}


def test_runs_that_take_longer_than_their_interval_do_not_overlap(processes: Processes, journal: Journal) -> None:
    """Scenario 53, five times as fast: every second, a run takes 2.4 s."""
    # given a thin orchestrator, which knows no actions, and two workers
    processes.manage("dynflow_orchestrator", settings="project.settings.orchestrator", DYNFLOW_SETTINGS=SETTINGS)
    for _ in range(2):
        start(processes, "rqworker", "default", **{TAKES: "2.4"})

    # when some runs have ended
    wait_until(lambda: len(journal.lines) >= 8, describe="four runs")

    # then none began before the one before it had ended
    kinds = [line.split() for line in journal.lines[:8]]
    assert [kind for kind, _ in kinds] == ["begin", "end"] * 4
    assert all(kinds[n][1] == kinds[n + 1][1] for n in range(0, 8, 2))
    assert Occurrence.objects.filter(outcome=OccurrenceOutcome.SKIPPED, reason__contains="is still").count() >= 4


def test_what_came_due_while_all_was_down_follows_its_policy(processes: Processes, journal: Journal) -> None:
    # given a schedule, and nobody there for some of its due times
    schedule = control.make_schedule(Tick, Every(seconds=1))
    wait_until(lambda: len(control.preview(schedule)) and is_late(schedule), describe="three are due")

    # when an orchestrator and a worker start
    quiet = json.dumps({**json.loads(SETTINGS), "DECLARE_SCHEDULES": False})
    for arguments in (["dynflow_orchestrator"], ["rqworker", "default"]):
        processes.manage(*arguments, DYNFLOW_SETTINGS=quiet)
    wait_until(lambda: len(journal.lines) >= 2, describe="two runs")

    # then the latest was made up for
    found = occurrences()
    assert gaps([each.due_at for each in found]) == {A_SECOND}
    assert found[0].outcome == found[1].outcome == OccurrenceOutcome.MISSED


def is_late(schedule: Schedule) -> bool:
    assert schedule.due_at is not None
    return datetime.now(schedule.due_at.tzinfo) - schedule.due_at > 3 * A_SECOND
