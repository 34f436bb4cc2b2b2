"""Two at once: whatever the order turns out to be, nobody sees an error but a refusal, and no plan is stuck.

Each pair of verbs meets in 200 rounds, on two connections that a barrier lets go at the same moment.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING
from uuid import UUID

import pytest
from django.db import connection, connections

from dynflow_app import control, triggering
from dynflow_app.exceptions import WrongStateError
from dynflow_app.ledger.saying import write_progress
from dynflow_app.models import Envelope, ExecutionPlan, WorldKind
from dynflow_app.orchestrator import timers
from dynflow_app.processes.registration import register
from dynflow_app.worker import pump, recorder
from dynflow_app.worker.pump import Pump
from tests.engine import Engine, all_queues
from tests.support import wait_until
from tests.testapp import told, whole
from tests.testapp.actions import Record
from tests.testapp.journal import Journal

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.servers]

ROUNDS = 200
Deed = Callable[[], object]


@pytest.fixture(autouse=True)
def _two_connections(engine: Engine) -> None:
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has one writer at a time")


def race(*deeds: Deed) -> list[bool]:
    """Do these at the same moment; for each, whether it was done. Raises what any raised, except a refusal."""
    barrier = threading.Barrier(len(deeds))
    done: dict[int, bool] = {}
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            connection.ensure_connection()
            barrier.wait()
            deeds[number]()
            done[number] = True
        except WrongStateError:
            done[number] = False
        except BaseException as error:
            errors.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(deeds))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return [done[number] for number in range(len(deeds))]


def copies(plans: list[ExecutionPlan]) -> list[tuple[ExecutionPlan, ExecutionPlan]]:
    """Two objects for each plan, as two people would have."""
    return [(ExecutionPlan.objects.get(pk=plan.pk), ExecutionPlan.objects.get(pk=plan.pk)) for plan in plans]


def paused(engine: Engine, journal: Journal) -> list[ExecutionPlan]:
    journal.break_("run a")
    plans = triggering.trigger_many(Record, [{"name": "a"}] * ROUNDS)
    engine.run()
    journal.repair("run a")
    return plans


def suspended(engine: Engine, action: type = whole.WaitsFor60) -> list[ExecutionPlan]:
    plans = triggering.trigger_many(action, [{}] * ROUNDS)
    engine.run()
    return plans


def ends(engine: Engine, plans: list[ExecutionPlan]) -> list[str]:
    """Let everything come to rest; what became of each plan."""
    engine.run()
    assert not Envelope.objects.exists()
    return [f"{plan.state}/{plan.result}" for plan in ExecutionPlan.objects.filter(pk__in=[plan.pk for plan in plans])]


def test_two_resumes(engine: Engine, journal: Journal) -> None:
    """Scenario 57: a double click."""
    plans = paused(engine, journal)
    for one, other in copies(plans):
        assert sorted(race(partial(control.resume, one), partial(control.resume, other))) == [
            False,
            True,
        ]
    assert set(ends(engine, plans)) == {"stopped/success"}
    assert len(journal.lines) == 2 * ROUNDS


def test_resume_and_cancel(engine: Engine, journal: Journal) -> None:
    """Scenario 57: a cancel after the resume still cancels; a resume after the cancel is refused."""
    plans = paused(engine, journal)
    for one, other in copies(plans):
        _, cancelled = race(partial(control.resume, one), partial(control.cancel, other))
        assert cancelled
    assert set(ends(engine, plans)) == {"stopped/cancelled"}
    assert len(journal.lines) == ROUNDS


def test_skip_and_resume(engine: Engine, journal: Journal) -> None:
    plans = paused(engine, journal)
    expected = set()
    for plan in plans:
        step = plan.steps.get()
        skipped, resumed = race(partial(control.skip, step), partial(control.resume, plan))
        assert resumed
        expected.add("stopped/warning" if skipped else "stopped/success")
    assert set(ends(engine, plans)) == expected


def test_two_skips(engine: Engine, journal: Journal) -> None:
    plans = paused(engine, journal)
    for plan in plans:
        one, other = plan.steps.get(), plan.steps.get()
        assert sorted(race(partial(control.skip, one), partial(control.skip, other))) == [False, True]


def test_progress_and_cancel(
    engine: Engine, journal: Journal, settings: SettingsWrapper, caplog: pytest.LogCaptureFixture
) -> None:
    """A worker writes how far one step is and how another one ended, in the moment in which their plan is cancelled."""
    # given a worker whose every turn waits for one outcome and takes along what was reported before
    settings.DYNFLOW = {**settings.DYNFLOW, "BATCH": 1}
    plan = triggering.trigger(told.ReportsBeside)
    engine.decide()
    with ThreadPoolExecutor(1) as pool, pytest.MonkeyPatch.context() as patch:
        cancels: list[Future[None]] = []

        def write_and_cancel(given: Iterable[tuple[int, int, float]]) -> None:
            reports = list(given)
            write_progress(reports)
            if reports and not cancels:
                cancels.append(pool.submit(_cancel, plan.pk))
                wait_until(lambda: cancels[0].done() or waits_for_a_lock(), describe="the cancel goes on or waits")

        patch.setattr(recorder, "write_progress", write_and_cancel)
        patch.setattr(pump, "GATHER", 20.0)

        # when the plan is cancelled right after it wrote the progress
        with engine.working():
            wait_until(lambda: cancels and cancels[0].done(), describe="it is cancelled")
            journal.write("go")
        cancels[0].result()

    # then neither had to give way to the other; and what runs may answer a cancel by succeeding
    assert not [record.getMessage() for record in caplog.records if "waiting for" in record.getMessage()]
    assert ends(engine, [plan]) == ["stopped/success"]


def _cancel(plan_id: UUID) -> None:
    try:
        control.cancel(ExecutionPlan.objects.get(pk=plan_id))
    finally:
        connections.close_all()


def waits_for_a_lock() -> bool:
    """Whether any transaction waits for another one."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT EXISTS (SELECT 1 FROM pg_locks WHERE NOT granted)")
        return bool(cursor.fetchone()[0])


def test_event_and_timeout(engine: Engine, journal: Journal) -> None:
    """Scenario 57: one of them wakes the step, and what it does follows from that one alone."""
    plans = suspended(engine)
    engine.pass_time(59)
    for plan in plans:
        step = plan.steps.get()
        plan.steps.update(alarm_at=step.ready_at)
        race(partial(control.send_event, step, "go"), partial(timers.fire_alarms, engine.term))
    assert set(ends(engine, plans)) <= {"stopped/success", "paused/error"}
    for plan in plans:
        step = plan.steps.prefetch_related("events").get()
        (event,) = step.events.all()
        assert (step.state, event.state) in {("success", "handled"), ("error", "dropped")}
        assert step.attempts.count() == 2


def test_two_events(engine: Engine, journal: Journal) -> None:
    plans = suspended(engine, whole.Waits)
    for plan in plans:
        step = plan.steps.get()
        race(partial(control.send_event, step, "x"), partial(control.send_event, step, "end"))
    engine.run()
    for plan in plans:
        names = [name for name, _ in plan.actions.get().output["got"]]
        assert names in (["x", "end"], ["end"])


@pytest.mark.parametrize("verb", [control.cancel, control.abort, control.halt])
def test_ending_and_success(engine: Engine, journal: Journal, verb: Callable[[ExecutionPlan], None]) -> None:
    """A worker claims, runs and records while somebody ends the plan."""
    plans = triggering.trigger_many(whole.Undoable, [{"name": str(number)} for number in range(ROUNDS)])
    engine.decide()
    for start in range(0, ROUNDS, 4):
        worker = Pump(register(WorldKind.EXECUTOR), all_queues(), threads=1)
        part = plans[start : start + 4]
        race(partial(worker.run, burst=True), *(partial(verb, plan) for plan in part))
    found = ends(engine, plans)
    assert set(found) <= {"stopped/success", "stopped/cancelled", "stopped/error"}
    assert max(map(journal.lines.count, journal.lines), default=0) <= 1


def test_cancel_and_event(engine: Engine, journal: Journal) -> None:
    plans = suspended(engine, whole.AnswersCancel)
    for plan in plans:
        step = plan.steps.get()
        race(partial(control.cancel, plan), partial(control.send_event, step, "end"))
    assert set(ends(engine, plans)) <= {"stopped/success", "stopped/cancelled"}
