"""When something is due, again and again: `Every` and `Cron`. Functions of given times; nothing here asks a clock.

A cron line means wall-clock time in its zone. A line with a fixed hour and minute is due once on each of its days: what
the clock skips in spring comes an hour later, what it repeats in autumn comes the first time. Any other line follows
the clock: hourly means 23 times on the short day and 25 times on the long one.
"""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import takewhile
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

from dynflow_app.states import Missed, Overlap

ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
FIELDS = ("second", "minute", "hour", "day-of-month", "month", "day-of-week")
SHORTEST = timedelta(seconds=1)
LONGEST = timedelta(days=36525)
LONGEST_LINE = 255
FIRST_YEAR, LAST_YEAR = 1900, 9000
"""Of a start: grids and zones run out of dates beyond."""
BEFORE_GAP = timedelta(hours=3)
"""More than any clock change."""
_TICK = timedelta(microseconds=1)
_A_DAY = datetime(2000, 1, 1, tzinfo=UTC)
"""Any time at all, to try a line with."""


@dataclass(frozen=True, kw_only=True)
class Timing(ABC):
    """What `Every` and `Cron` have in common. Values are looked at by `check`, so that a wrong one in code is found by
    ``manage.py check`` rather than by an import that fails."""

    input: Mapping[str, Any] = field(default_factory=dict)
    """Named arguments of ``plan()``; JSON."""
    overlap: Overlap = Overlap.SKIP
    """What becomes of an occurrence while an earlier plan has not stopped."""
    missed: Missed = Missed.LATEST
    """What becomes of due times at which nobody was there."""
    window: timedelta = timedelta(hours=1)
    """How far back ``Missed.ALL`` goes."""
    jitter: timedelta = timedelta(0)
    """Each occurrence comes later by a random part of this, but before the next is due."""
    start: datetime | None = None
    """Nothing is due before; the grid of `Every` begins here. Aware. None: when the schedule is made."""
    end: datetime | None = None
    """Nothing is due after. Aware."""
    limit: int | None = None
    """How many plans it makes altogether."""
    purpose: str = ""
    """Of the active schedules only one may have this purpose."""

    @abstractmethod
    def times(self, after: datetime, origin: datetime) -> Iterator[datetime]:
        """The due times later than `after` and not before `origin`, in UTC, in order. May be endless."""

    def check(self) -> None:
        """Raise ValueError, saying what is wrong and what would be right."""
        for name in ("start", "end"):
            moment: object = getattr(self, name)
            if not (moment is None or (isinstance(moment, datetime) and moment.tzinfo is not None)):
                raise ValueError(f"{name}={moment!r}: give a datetime with a time zone.")
        if self.start is not None and not FIRST_YEAR <= self.start.year < LAST_YEAR:
            raise ValueError(f"start={self.start!r}: give a year from {FIRST_YEAR} to {LAST_YEAR - 1}.")
        if self.start is not None and self.end is not None and self.end < self.start:
            raise ValueError(f"end={self.end!r} comes before start={self.start!r}.")
        for name in ("window", "jitter"):
            length: object = getattr(self, name)
            if not (isinstance(length, timedelta) and timedelta(0) <= length <= LONGEST):
                raise ValueError(f"{name}={length!r}: give a timedelta that is not negative.")
        limit: object = self.limit
        if limit is not None and not (isinstance(limit, int) and limit > 0):
            raise ValueError(f"limit={limit!r}: give a number above zero, or None.")
        for name, kind in (("overlap", Overlap), ("missed", Missed)):
            if getattr(self, name) not in kind.values:
                raise ValueError(f"{name}={getattr(self, name)!r}: use one of {', '.join(map(str, kind))}.")


@dataclass(frozen=True, kw_only=True)
class Every(Timing):
    """At a fixed distance, from one second: ``Every(seconds=5)``, ``Every(hours=1, minutes=30)``.

    Due times lie on a grid that begins at `start`, however long runs take: they do not drift.
    """

    seconds: float = 0
    minutes: float = 0
    hours: float = 0
    days: float = 0

    def __str__(self) -> str:
        return f"every {_in_words(self.interval)}"

    @property
    def interval(self) -> timedelta:
        """From one due time to the next. Raises ValueError for what is no distance."""
        try:
            return timedelta(seconds=self.seconds, minutes=self.minutes, hours=self.hours, days=self.days)
        except (TypeError, OverflowError) as error:
            raise ValueError(f"Every(): give numbers of seconds, minutes, hours, days ({error}).") from None

    def times(self, after: datetime, origin: datetime) -> Iterator[datetime]:
        """As `Timing.times`; the grid begins at `origin`."""
        origin, interval = origin.astimezone(UTC), self.interval
        number = max((after - origin) // interval + 1, 0)
        while True:
            yield origin + number * interval
            number += 1

    def check(self) -> None:
        """As `Timing.check`."""
        super().check()
        if not SHORTEST <= self.interval <= LONGEST:
            raise ValueError(f"Every {self.interval}: the distance is a second at least.")


@dataclass(frozen=True, kw_only=True)
class Cron(Timing):
    """At the times of a cron line: ``Cron("0 3 * * *", tz="Europe/Prague")``.

    Five fields, or six with seconds first; names, ranges, steps, ``L``, ``MON#2``; or ``@hourly``, ``@daily``,
    ``@weekly``, ``@monthly``, ``@yearly``.
    """

    line: str = field(kw_only=False)
    tz: str = "UTC"
    """Name of the zone whose clocks count."""

    def __str__(self) -> str:
        return f"{self.line} ({self.tz})"

    @property
    def fields(self) -> list[str]:
        """The fields, seconds included."""
        parts = ALIASES.get(self.line.strip().lower(), self.line).upper().split()
        return ["0", *parts] if len(parts) == len(FIELDS) - 1 else parts

    def times(self, after: datetime, origin: datetime) -> Iterator[datetime]:
        """As `Timing.times`."""
        last = max(after, origin - _TICK)
        for moment in self._follow_days(last) if self._is_fixed() else self._follow_clock(last):
            if moment > last:
                last = moment
                yield moment

    def check(self) -> None:
        """As `Timing.check`."""
        super().check()
        _require_zone(self.tz)
        line: object = self.line
        if not (isinstance(line, str) and len(line) <= LONGEST_LINE):
            raise ValueError(f"{line!r} is no cron line: give text of at most {LONGEST_LINE} characters.")
        if len(self.fields) != len(FIELDS):
            raise ValueError(
                f"{self.line!r} is no cron line: it has {len(self.fields)} fields. Give five (minute hour day-of-month "
                f"month day-of-week), or six with seconds first, or one of {', '.join(ALIASES)}."
            )
        try:
            is_ever_due = any(True for _ in CronSim(" ".join(self.fields), _A_DAY))
        except (CronSimError, ValueError, AssertionError) as error:
            raise ValueError(f"{self.line!r} is no cron line: {self._what_is_wrong(error)}.") from None
        if not is_ever_due:
            raise ValueError(f"{self.line!r} is never due.")

    def _is_fixed(self) -> bool:
        _, minute, hour, *_ = self.fields
        return not minute.startswith("*") and not hour.startswith("*")

    def _follow_days(self, after: datetime) -> Iterator[datetime]:
        zone = ZoneInfo(self.tz)
        # What a clock change moved to later than `after` is found from before the change.
        local = (after - BEFORE_GAP).astimezone(zone).replace(tzinfo=None, fold=0)
        for naive in CronSim(" ".join(self.fields), local):
            yield naive.replace(tzinfo=zone, fold=0).astimezone(UTC)

    def _follow_clock(self, after: datetime) -> Iterator[datetime]:
        zone = UTC if self.tz == "UTC" else ZoneInfo(self.tz)
        for moment in CronSim(" ".join(self.fields), after.astimezone(zone)):
            yield moment.astimezone(UTC)

    def _what_is_wrong(self, error: Exception) -> str:
        name = str(error).removeprefix("Bad ")
        if name not in FIELDS:
            return str(error).lower() or "a field cannot be read"
        return f"its {name} cannot be {self.fields[FIELDS.index(name)]!r}"


def last_times(timing: Timing, origin: datetime, after: datetime, until: datetime, most: int) -> list[datetime]:
    """The last `most` due times in (`after`, `until`], in order. Costs little even if a million lie between."""
    span = timedelta(seconds=most)
    while True:
        begin = max(after, until - span)
        found = deque(takewhile(lambda moment: moment <= until, timing.times(begin, origin)), maxlen=most)
        if len(found) == most or begin == after:
            return list(found)
        span *= 4


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def _require_zone(name: object) -> None:
    try:
        ZoneInfo(name)  # type: ignore[arg-type] # users' may be anything
    except (KeyError, ValueError, TypeError, OSError):  # an unknown one is a KeyError
        near = difflib.get_close_matches(str(name), _zones(), n=1)
        hint = f" Did you mean {near[0]!r}?" if near else " Use a name such as 'Europe/Prague'."
        raise ValueError(f"There is no time zone {name!r}.{hint}") from None


def _in_words(length: timedelta) -> str:
    for unit, seconds in (("d", 86400), ("h", 3600), ("min", 60)):
        if length and length % timedelta(seconds=seconds) == timedelta(0):
            return f"{length // timedelta(seconds=seconds)} {unit}"
    return f"{length.total_seconds():g} s"
