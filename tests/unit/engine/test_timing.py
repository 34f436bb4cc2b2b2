"""When something is due: grids that do not drift, and cron lines that follow the clocks of their zone."""

from __future__ import annotations

import re
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynflow_app import Cron, Every
from dynflow_app.engine.timing import Timing, last_times

PRAGUE = ZoneInfo("Europe/Prague")
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
A_TICK = timedelta(microseconds=1)
A_DAY = timedelta(days=1)
SPRING, AUTUMN = date(2026, 3, 29), date(2026, 10, 25)
"""The short and the long day of Prague."""


def first(timing: Timing, number: int, after: datetime = NOON, origin: datetime | None = None) -> list[datetime]:
    return list(islice(timing.times(after, origin or after), number))


def runs_by_day(line: str, around: date) -> dict[date, int]:
    """How often the line is due on the day before, on the day itself and on the day after, by the clocks of Prague."""
    begin = datetime.combine(around - A_DAY, datetime.min.time(), PRAGUE)
    end = datetime.combine(around + 2 * A_DAY, datetime.min.time(), PRAGUE)
    times = Cron(line, tz="Europe/Prague").times(begin - A_TICK, begin)
    return Counter(moment.astimezone(PRAGUE).date() for moment in takewhile(lambda moment: moment < end, times))


# --- cron ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", ["30 2 * * *", "0 30 2 * * *", "15 30 2 * * *", "0 3 * * *", "0 0 * * *", "@daily"])
@pytest.mark.parametrize("day", [SPRING, AUTUMN])
def test_a_daily_line_is_due_once_on_each_day_whatever_the_clock_does(line: str, day: date) -> None:
    """Scenario 54."""
    assert runs_by_day(line, day) == {day - A_DAY: 1, day: 1, day + A_DAY: 1}


@pytest.mark.parametrize("line", ["0 * * * *", "0 0 * * * *", "@hourly", "30 * * * *", "*/60 * * * *"])
@pytest.mark.parametrize(("day", "hours"), [(SPRING, 23), (AUTUMN, 25)])
def test_an_hourly_line_follows_the_clock(line: str, day: date, hours: int) -> None:
    """Scenario 54."""
    assert runs_by_day(line, day) == {day - A_DAY: 24, day: hours, day + A_DAY: 24}


def test_every_ten_minutes_goes_on_through_both_changes() -> None:
    assert runs_by_day("*/10 * * * *", SPRING)[SPRING] == 23 * 6
    assert runs_by_day("*/10 * * * *", AUTUMN)[AUTUMN] == 25 * 6


def test_what_the_clock_skips_comes_an_hour_later_and_what_it_repeats_comes_the_first_time() -> None:
    daily = Cron("30 2 * * *", tz="Europe/Prague")
    eve = datetime(2026, 3, 28, 12, tzinfo=UTC)
    assert first(daily, 1, eve)[0].astimezone(PRAGUE).isoformat() == "2026-03-29T03:30:00+02:00"
    eve = datetime(2026, 10, 24, 12, tzinfo=UTC)
    assert first(daily, 1, eve)[0].astimezone(PRAGUE).isoformat() == "2026-10-25T02:30:00+02:00"


def test_it_makes_no_difference_when_one_begins_to_count() -> None:
    # given all due times of a week with a clock change
    for day in (SPRING, AUTUMN):
        begin = datetime.combine(day - A_DAY, datetime.min.time(), UTC)
        for line in ("30 2 * * *", "0,30 2-3 * * *", "0 * * * *", "*/20 1-3 * * *"):
            timing = Cron(line, tz="Europe/Prague")
            whole = list(takewhile(lambda moment: moment < begin + 3 * A_DAY, timing.times(begin, begin)))  # noqa: B023
            assert whole == sorted(set(whole))
            # when counting from any quarter of an hour, then the next is the same
            for quarter in range(4 * 24 * 2):
                moment = begin + quarter * timedelta(minutes=15)
                assert next(timing.times(moment, begin)) == next(each for each in whole if each > moment)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("0 12 * * MON", "2026-11-30T12:00:00+00:00"),
        ("0 0 1 JAN *", "2027-01-01T00:00:00+00:00"),
        ("*/5 * * * * *", "2026-11-24T12:00:05+00:00"),
        ("0 0 L * *", "2026-11-30T00:00:00+00:00"),
        ("0 0 * * TUE#2", "2026-12-08T00:00:00+00:00"),
        ("@weekly", "2026-11-29T00:00:00+00:00"),
        ("@Yearly", "2027-01-01T00:00:00+00:00"),
        ("  0   13 * * *  ", "2026-11-24T13:00:00+00:00"),
    ],
)
def test_lines_with_seconds_names_and_aliases(line: str, expected: str) -> None:
    timing = Cron(line)
    timing.check()
    assert first(timing, 1)[0].isoformat() == expected


@pytest.mark.parametrize(
    ("timing", "message"),
    [
        (Cron("61 * * * *"), "its minute cannot be '61'"),
        (Cron("0 0 * * FOO"), "its day-of-week cannot be 'FOO'"),
        (Cron("* * * *"), "it has 4 fields. Give five"),
        (Cron("@nightly"), "or one of @yearly"),
        (Cron("0 0 30 2 *"), "its day-of-month cannot be '30'"),
        (Cron("@daily", tz="Europe/Pragu"), "Did you mean 'Europe/Prague'"),
        (Cron("@daily", tz="/etc/passwd"), "There is no time zone"),
        (Cron(5), "is no cron line"),  # type: ignore[arg-type]
        (Every(), "a second at least"),
        (Every(seconds=0.5), "a second at least"),
        (Every(seconds=-5), "a second at least"),
        (Every(seconds="5"), "give numbers"),  # type: ignore[arg-type]
        (Every(seconds=5, jitter=timedelta(seconds=-1)), "jitter"),
        (Every(seconds=5, limit=0), "limit"),
        (Every(seconds=5, start=datetime(2026, 1, 1)), "time zone"),  # noqa: DTZ001 - that is what is wrong
        (Every(seconds=5, start=NOON, end=NOON - A_DAY), "comes before"),
        (Every(seconds=5, overlap="often"), "skip, queue, allow, cancel"),  # type: ignore[arg-type]
    ],
)
def test_what_is_wrong_is_said(timing: Timing, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        timing.check()


@given(st.text(alphabet="0123456789*/,-LW#@ MONJAN", max_size=30))
def test_no_text_makes_a_line_do_anything_but_work_or_be_refused(line: str) -> None:
    timing = Cron(line)
    try:
        timing.check()
    except ValueError:
        return
    assert next(timing.times(NOON, NOON)) > NOON


# --- intervals -----------------------------------------------------------------------------------------------------


def test_a_grid_does_not_drift() -> None:
    # given a grid that began at noon, and somebody who always comes late
    origin, seen = NOON, []
    moment = NOON
    for _ in range(1000):
        moment = next(Every(seconds=5).times(moment, origin))
        seen.append(moment)
        moment += timedelta(milliseconds=700)
    # then every due time is on it
    assert seen == [origin + n * timedelta(seconds=5) for n in range(1, 1001)]


@given(
    st.timedeltas(min_value=timedelta(seconds=1), max_value=timedelta(days=400)),
    st.timedeltas(min_value=timedelta(days=-4000), max_value=timedelta(days=4000)),
)
def test_the_next_on_a_grid_is_the_first_after(interval: timedelta, passed: timedelta) -> None:
    timing = Every(seconds=interval / timedelta(seconds=1))
    after = NOON + passed
    due, following = first(timing, 2, after, NOON)
    assert due > after
    assert due >= NOON
    assert following - due == timing.interval
    assert due == NOON or due - timing.interval <= after
    assert (due - NOON) % timing.interval == timedelta(0)


def test_a_start_a_week_ago_leads_to_a_time_to_come() -> None:
    """From the tasking plug-in, e."""
    assert first(Every(hours=1), 1, NOON, NOON - timedelta(days=7, minutes=10))[0] == NOON + timedelta(minutes=50)
    assert first(Cron("0 3 * * *"), 1, NOON, NOON - timedelta(days=7))[0] == datetime(2026, 11, 25, 3, tzinfo=UTC)


def test_nothing_is_due_before_the_start() -> None:
    start = NOON + timedelta(days=3)
    assert first(Every(seconds=5), 1, NOON, start) == [start]
    assert first(Cron("0 3 * * *"), 1, NOON, start) == [datetime(2026, 11, 28, 3, tzinfo=UTC)]


# --- what was missed -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("timing", [Every(seconds=1), Cron("* * * * * *"), Cron("*/5 * * * *"), Cron("@yearly")])
def test_the_last_due_times_are_found_without_walking_through_all(timing: Timing) -> None:
    # given two years in which nobody was there
    begin = NOON - timedelta(days=730)
    found = last_times(timing, begin, begin, NOON, 10)
    # then the last ten are there, or all if there are fewer
    if timing == Cron("@yearly"):
        assert [moment.year for moment in found] == [2025, 2026]
    else:
        assert len(found) == 10
        assert NOON - timedelta(minutes=5) < found[-1] <= NOON
        assert next(timing.times(found[-1], begin)) > NOON
    assert found == sorted(set(found))


def test_in_words() -> None:
    assert [str(Every(seconds=5)), str(Every(minutes=90)), str(Every(days=2)), str(Every(seconds=1.5))] == [
        "every 5 s",
        "every 90 min",
        "every 2 d",
        "every 1.5 s",
    ]
    assert str(Cron("@daily", tz="Europe/Prague")) == "@daily (Europe/Prague)"
