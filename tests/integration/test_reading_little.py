"""What a turn reads is what it is about, whatever else there is and whatever the statistics make of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.db import connection, transaction

from dynflow_app import BaseAction, triggering
from dynflow_app.messages import EndedAs
from dynflow_app.models import Step, Ticket
from dynflow_app.states import StepState
from dynflow_app.worker.outcomes import blank
from dynflow_app.worker.recorder import Written
from tests.engine import outcome
from tests.turns import Turns

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.servers]

MANY = 3000
WIDTH = 200
FEW = 60


class OneThenMany(BaseAction):
    """`first` steps side by side, then `width`."""

    def plan(self, width: int, first: int = 1) -> None:
        with self.sequence():
            for number in (first, width):
                with self.concurrence():
                    for _ in range(number):
                        self.plan_action(Nothing)


class Nothing(BaseAction):
    """Does nothing."""

    def run(self) -> None:
        """Nothing to do."""


class Reading:
    """What was read of one table, by this transaction."""

    rows = 0
    look_ups = 0


@contextmanager
def reading(model: type[Step | Ticket]) -> Iterator[Reading]:
    """Counts in a transaction of its own."""
    sql = "SELECT seq_tup_read + idx_tup_fetch, idx_scan FROM pg_stat_xact_user_tables WHERE relname = %s"

    def look() -> tuple[int, int]:
        with connection.cursor() as cursor:
            cursor.execute(sql, [model._meta.db_table])
            return cursor.fetchone() or (0, 0)

    done = Reading()
    with transaction.atomic():
        rows, look_ups = look()  # of transactions before, until the server counts them elsewhere
        yield done
        done.rows, done.look_ups = (now - before for now, before in zip(look(), (rows, look_ups), strict=True))


def test_a_small_plan_ends_without_a_look_at_the_steps_of_a_large_one(turns: Turns) -> None:
    # given a plan that has nearly all steps there are, and statistics that say so
    large = triggering.trigger(OneThenMany, width=MANY)
    while steps := turns.claim(1000):
        turns.end(steps)
    assert outcome(large) == "stopped/success"
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    small = triggering.trigger(Nothing)
    (step,) = turns.claim()

    # when a small plan ends
    with reading(Step) as read:
        turns.recorder.turn(Written(outcomes=[blank(step, StepState.SUCCESS, EndedAs.SUCCEEDED)]), 0)

    # then that has read its own steps
    assert outcome(small) == "stopped/success"
    assert 0 < read.rows < FEW


def test_tickets_are_drawn_with_few_looks_at_the_line(turns: Turns) -> None:
    """The ends of the line are dear to find while many have just left it."""
    # when many steps become ready as a plan is stored
    with reading(Ticket) as read:
        triggering.trigger(OneThenMany, width=WIDTH, first=WIDTH)
    assert 0 < read.look_ups < FEW

    # and when many do as one ends
    *most, last = turns.claim(2 * WIDTH)
    turns.end(most)
    with reading(Ticket) as read:
        turns.recorder.turn(Written(outcomes=[blank(last, StepState.SUCCESS, EndedAs.SUCCEEDED)]), 0)
    assert Ticket.objects.count() == WIDTH
    assert 0 < read.look_ups < FEW
