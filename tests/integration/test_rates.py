"""Steps that share a key share its limits: how many start per time. See `test_limits` for how many run at once."""

from __future__ import annotations

from datetime import timedelta

import pytest

from dynflow_app.actions.rate import Rate
from dynflow_app.ledger.limits import declare, due_limits
from dynflow_app.models import Limit
from tests.integration.test_limits import admitted, end, pass_time, taken, throttle


@pytest.mark.django_db
@pytest.mark.invented
class TestHowManyPerTime:
    """Starts are spread evenly; the orchestrator is told when to look again."""

    def test_starts_keep_the_pace(self) -> None:
        # given a start every six seconds
        declare([("k", None, Rate(10, per=timedelta(minutes=1)))])
        throttle(4)

        # when they become ready at once, then one starts, and the others wait for their time
        assert admitted() == {"default": 1}
        assert admitted() == {}
        limit = Limit.objects.get()
        assert limit.wakes_at == limit.next_start_at
        pass_time(seconds=5)
        assert due_limits(10) == []
        assert admitted() == {}
        pass_time(seconds=1)
        assert due_limits(10) == ["k"]

        # and the next one starts six seconds after the first, however late somebody looked
        due = Limit.objects.get().next_start_at
        assert admitted(*due_limits(10)) == {"default": 1}
        limit = Limit.objects.get()
        assert limit.wakes_at == limit.next_start_at == due + timedelta(seconds=6)

        # and with nothing left, nobody is woken
        for _ in range(2):
            pass_time(seconds=6)
            admitted()
        assert (len(taken()), due_limits(10), Limit.objects.get().wakes_at) == (4, [], None)

    def test_what_the_orchestrator_missed_is_made_up_for_but_not_what_nobody_waited_for(self) -> None:
        # given ten starts a second, and nothing for a minute
        declare([("k", None, Rate(10))])
        throttle(1)
        admitted()
        pass_time(minutes=1)

        # when many become ready, then one starts
        throttle(50)
        assert admitted() == {"default": 1}

        # and when the orchestrator looks half a second later, then those due meanwhile start
        pass_time(seconds=0.5)
        assert 4 < admitted().total() < 10

        # and after a long absence no more than those of the last two seconds
        pass_time(minutes=1)
        assert 20 < admitted().total() < 25

    def test_both_limits_count(self) -> None:
        # given two at once, and one a second
        declare([("k", 2, Rate(1))])
        throttle(4)

        # when time passes, then the second starts, and the third waits for a slot, not for a time
        assert admitted() == {"default": 1}
        pass_time(seconds=1)
        assert admitted(*due_limits(10)) == {"default": 1}
        pass_time(minutes=1)
        assert (admitted(), due_limits(10), Limit.objects.get().wakes_at) == ({}, [], None)

        # and with two slots free, one of them waits for its time
        end(*taken())
        assert len(taken()) == 1
        assert Limit.objects.get().wakes_at is not None

    def test_a_faster_rate_counts_from_now_and_no_rate_at_once(self) -> None:
        declare([("k", None, Rate(1, per=timedelta(days=1)))])
        throttle(4)
        admitted()

        declare([("k", None, Rate(1, per=timedelta(minutes=1)))])
        admitted()
        assert due_limits(10) == []
        pass_time(minutes=1)
        assert admitted(*due_limits(10)) == {"default": 1}

        declare([("k", 10, None)])
        assert admitted() == {"default": 2}
        assert Limit.objects.get().next_start_at is None
