"""What people do to schedules: make, change, pause, resume, run now, skip the next, look ahead."""

from __future__ import annotations

import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import connections
from django.utils import timezone

from dynflow_app import Cron, Every, Overlap
from dynflow_app.control import (
    cancel,
    make_schedule,
    pause_schedule,
    preview,
    resume_schedule,
    run_now,
    save_schedule,
    skip_next,
)
from dynflow_app.exceptions import PlanningError, WrongStateError
from dynflow_app.models import ExecutionPlan, Schedule
from dynflow_app.states import ScheduleState
from tests.engine import Engine
from tests.testapp.journal import Journal
from tests.testapp.repeated import Report, Tick

pytestmark = pytest.mark.django_db(transaction=True)


def made(**options: Any) -> Schedule:
    return make_schedule(Tick, Every(minutes=10, **options), by="ada")


def test_pause_and_resume(engine: Engine, journal: Journal) -> None:
    """From the tasking plug-in, f."""
    # given a schedule that somebody paused
    schedule = made()
    pause_schedule(schedule, by="ada", reason="the vault is closed")
    assert (schedule.state, schedule.due_at, schedule.changed_by) == (ScheduleState.PAUSED, None, "ada")
    assert schedule.reason == "the vault is closed"

    # when a day has passed and it is resumed, then nothing is made up for: it is due at the next time on its grid
    engine.pass_time(86400 + 60)
    resume_schedule(schedule, by="bob")
    engine.run()
    assert journal.lines == []
    assert timezone.now() < schedule.due_at <= timezone.now() + timedelta(minutes=10)
    assert (schedule.due_at - schedule.starts_at) % timedelta(minutes=10) == timedelta(0)


def test_verbs_that_the_state_forbids_say_so() -> None:
    schedule = made()
    with pytest.raises(WrongStateError, match="is active already"):
        resume_schedule(schedule)
    pause_schedule(schedule)
    with pytest.raises(WrongStateError, match="is paused and cannot be paused"):
        pause_schedule(schedule)
    with pytest.raises(WrongStateError, match="cannot be skipped"):
        skip_next(schedule)
    Schedule.objects.update(fired=3, limit=3)
    with pytest.raises(WrongStateError, match="has no due time left"):
        resume_schedule(schedule)
    schedule.delete()
    schedule.pk = 5
    with pytest.raises(WrongStateError, match="does not exist any more"):
        pause_schedule(schedule)


def test_run_now_makes_a_plan_beside_the_due_times(engine: Engine, journal: Journal) -> None:
    # given a paused schedule
    schedule = made(limit=5)
    pause_schedule(schedule)

    # when somebody runs it now
    plan = run_now(schedule, by="ada", reason="wants to see")
    engine.run(plan)

    # then it ran; it is noted, and does not count
    assert journal.lines == ["tick"]
    assert plan.triggered_by == "ada"
    occurrence = schedule.occurrences.get()
    assert (occurrence.plan, occurrence.reason) == (plan, "run now: wants to see")
    assert (schedule.state, schedule.fired) == (ScheduleState.PAUSED, 0)


def test_run_now_respects_what_is_under_way() -> None:
    schedule = made()
    first = run_now(schedule)
    with pytest.raises(WrongStateError, match=f"Plan {first.pk} of this schedule is still scheduled"):
        run_now(schedule)
    assert schedule.occurrences.count() == 1
    queueing = made(overlap=Overlap.QUEUE)
    run_now(queueing)
    run_now(queueing)
    with pytest.raises(WrongStateError, match="waits already until plan"):
        run_now(queueing)


def test_skip_next_skips_one_and_a_pause_does_not_bring_it_back(engine: Engine) -> None:
    # given a schedule whose next occurrence somebody skips
    schedule = made()
    coming = schedule.due_at
    assert skip_next(schedule, by="ada", reason="holiday") == coming
    assert schedule.due_at == coming + timedelta(minutes=10)
    assert schedule.occurrences.get().reason == "skipped by ada: holiday"

    # when it is paused and resumed before that time
    pause_schedule(schedule)
    resume_schedule(schedule)

    # then the next is still the one after
    assert schedule.due_at == coming + timedelta(minutes=10)
    engine.pass_time(600)
    engine.decide()
    assert not ExecutionPlan.objects.exists()
    engine.pass_time(600)
    engine.decide()
    assert Counter(schedule.occurrences.values_list("outcome", flat=True)) == {"skipped": 1, "fired": 1}


def test_cancelling_one_run_leaves_the_next(engine: Engine, journal: Journal) -> None:
    """From the tasking plug-in, c and d."""
    schedule = made()
    engine.pass_time(600)
    engine.decide()
    cancel(ExecutionPlan.objects.get())
    engine.pass_time(600)
    engine.run()
    assert journal.lines == ["tick"]
    journal.break_("tick")
    engine.pass_time(600)
    engine.run()
    assert journal.lines == ["tick", "tick"]
    schedule.refresh_from_db()
    assert (schedule.fired, schedule.state) == (3, ScheduleState.ACTIVE)


def test_preview_shows_times_in_the_zone_of_the_schedule() -> None:
    nightly = make_schedule(Tick, Cron("30 2 * * *", tz="Europe/Prague"))
    times = preview(nightly, 400)
    assert times[0] == nightly.due_at
    assert {moment.strftime("%H:%M") for moment in times} <= {"02:30", "03:30"}
    assert len({moment.date() for moment in times}) == 400
    assert preview(Cron("30 2 * * *", tz="Europe/Prague"), 400) == times
    pause_schedule(nightly)
    assert preview(nightly, 3) == times[:3]
    assert len(preview(made(limit=3))) == 3
    assert preview(Every(hours=1, start=datetime(2026, 1, 1, tzinfo=UTC), end=datetime(2026, 1, 2, tzinfo=UTC))) == []
    with pytest.raises(ValueError, match="is no cron line"):
        preview(Cron("x"))


def test_one_purpose_one_active_schedule() -> None:
    """From the tasking plug-in, g."""
    first = made(purpose="clean up")
    with pytest.raises(WrongStateError, match=f"The active schedule {first.pk} .* has the purpose 'clean up'"):
        made(purpose="clean up")
    pause_schedule(first)
    second = made(purpose="clean up")
    with pytest.raises(WrongStateError, match=f"The active schedule {second.pk}"):
        resume_schedule(first)
    first.refresh_from_db()
    assert first.state == ScheduleState.PAUSED


def test_a_changed_schedule_finds_its_next_occurrence_anew() -> None:
    schedule = made()
    schedule.every, schedule.cron, schedule.time_zone = None, "0 3 * * *", "Europe/Prague"
    save_schedule(schedule, by="ada")
    schedule.refresh_from_db()
    assert schedule.due_at == preview(Cron("0 3 * * *", tz="Europe/Prague"), 1)[0]
    pause_schedule(schedule, by="ada", reason="holiday")
    schedule.cron = "0 4 * * *"
    save_schedule(schedule, by="bob")
    schedule.refresh_from_db()
    assert (schedule.state, schedule.due_at, schedule.cron) == (ScheduleState.PAUSED, None, "0 4 * * *")
    assert (schedule.changed_by, schedule.reason) == ("ada", "holiday")


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"action": "no.such.Action"}, "action", "knows no action"),
        ({"input": {"mont": 11}}, "input", "missing a required argument: 'month'"),
        ({"input": {"month": 11, "year": 1}}, "input", "unexpected keyword argument 'year'"),
        ({"input": [11]}, "input", "Give an object"),
        ({"cron": "61 * * * *"}, "cron", "its minute cannot be '61'"),
        ({"cron": ""}, "cron", "either a cron line or"),
        ({"every": timedelta(seconds=5)}, "cron", "either a cron line or"),
        ({"cron": "", "every": timedelta(seconds=0)}, "every", "a second at least"),
        ({"time_zone": "Prague"}, "cron", "There is no time zone 'Prague'"),
    ],
)
def test_rows_that_cannot_work_are_refused(changes: dict[str, Any], field: str, message: str) -> None:
    columns = {"action": f"{Report.__module__}.Report", "input": {"month": 11}, "cron": "@daily", **changes}
    with pytest.raises(ValidationError) as caught:
        save_schedule(Schedule(**columns))
    assert message in str(caught.value.message_dict[field])
    assert not Schedule.objects.exists()


def test_wrong_timings_are_refused_in_code() -> None:
    with pytest.raises(ValueError, match="a second at least"):
        make_schedule(Tick, Every(seconds=0))
    with pytest.raises(PlanningError, match="missing a required argument: 'month'"):
        make_schedule(Report, Every(seconds=5))


def test_of_two_people_at_once_one_wins() -> None:
    schedule = made()
    answers = []

    def pause() -> None:
        try:
            pause_schedule(Schedule.objects.get(pk=schedule.pk))
            answers.append("paused")
        except WrongStateError:
            answers.append("refused")
        finally:
            connections.close_all()

    threads = [threading.Thread(target=pause) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == ["paused", "refused", "refused", "refused"]
