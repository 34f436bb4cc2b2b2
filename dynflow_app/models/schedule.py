"""Schedules: what makes plans again and again. Occurrences: what became of each of their due times."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile

from django.db import models
from django.utils.translation import gettext_lazy as _

from dynflow_app import clock
from dynflow_app.engine.timing import Cron, Every, Timing
from dynflow_app.models.base import (
    LedgerManager,
    LedgerQuerySet,
    ledger_alias,
    ledger_connection,
    now_sql,
    values_table,
)
from dynflow_app.models.execution_plan import ExecutionPlan
from dynflow_app.states import (
    SCHEDULE_TRANSITIONS,
    Missed,
    OccurrenceOutcome,
    Overlap,
    ScheduleState,
    require_legal,
)

KEPT_OCCURRENCES = 1000
"""About as many of each schedule; older ones are deleted."""
JITTER_SHARE = 0.9
"""Of the time until the next but one occurrence: jitter never moves one beyond the following."""
FOREVER = datetime(9000, 1, 1, tzinfo=UTC)
"""The end of schedules that have none; beyond, grids run out of dates."""


def this_second() -> datetime:
    """Now, without its fraction: a grid that begins here is easier to read."""
    return clock.now().replace(microsecond=0)


class ScheduleQuerySet(LedgerQuerySet["Schedule"]):
    """Schedules in bulk."""

    transitions = SCHEDULE_TRANSITIONS

    def lock(self) -> ScheduleQuerySet:
        """These schedules, locked in the order of their keys until the transaction ends. Lock plans after that only."""
        return self.select_for_update(no_key=True, of=("self",)).order_by("id")

    def move_on(self, schedules: Sequence[Schedule]) -> int:
        """Write what was decided about these active, due schedules, in one statement; returns how many still were."""
        connection = ledger_connection()
        adapt = connection.ops.adapt_datetimefield_value
        columns = {"key": "bigint", "state": "text", "due_at": "timestamptz", "next_at": "timestamptz",
                   "fired": "int", "decided": "bigint"}  # fmt: skip
        rows = [
            (each.pk, str(each.state), adapt(each.due_at), adapt(each.next_at), each.fired, each.decided)
            for each in schedules
        ]
        table, parameters = values_table(connection, columns, rows)
        ours = Schedule._meta.db_table
        setting = ", ".join(f"{name} = moved.{name}" for name in columns if name != "key")
        sql = f"""
            UPDATE {ours} SET {setting} FROM {table} AS moved
            WHERE {ours}.id = moved.key AND {ours}.state = 'active' AND {ours}.next_at <= {now_sql(connection)}
        """  # noqa: S608 - names are ours
        with connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            return int(cursor.rowcount)


class Schedule(models.Model):
    """When plans of an action are made by themselves. While it is active it has exactly one coming occurrence."""

    id = models.BigAutoField(primary_key=True)
    label = models.CharField(_("label"), max_length=255, blank=True)
    action = models.CharField(_("action"), max_length=255)
    input = models.JSONField(_("input"), default=dict, blank=True, help_text=_("Named arguments of its plan()."))
    queue = models.CharField(_("queue"), max_length=100, help_text=_("Whose workers plan it."))
    is_declared = models.BooleanField(
        _("is declared"), default=False, help_text=_("Whether the code of the action says when it is due.")
    )
    every = models.DurationField(_("every"), null=True, blank=True)
    cron = models.CharField(
        _("cron line"), max_length=255, blank=True, help_text=_("Five fields, six with seconds first, or @daily etc.")
    )
    time_zone = models.CharField(_("time zone"), max_length=64, default="UTC", help_text=_("Of the cron line."))
    overlap = models.CharField(
        _("overlap"),
        max_length=8,
        choices=Overlap.choices,
        default=Overlap.SKIP,
        help_text=_("What becomes of an occurrence while an earlier plan has not stopped."),
    )
    missed = models.CharField(
        _("missed"),
        max_length=8,
        choices=Missed.choices,
        default=Missed.LATEST,
        help_text=_("What becomes of due times at which no orchestrator was there."),
    )
    window = models.DurationField(_("window"), default=timedelta(hours=1), help_text=_("How far back 'all' goes."))
    jitter = models.DurationField(_("jitter"), default=timedelta(0), help_text=_("Random delay, at most this long."))
    starts_at = models.DateTimeField(
        _("starts at"), default=this_second, help_text=_("Where the grid of 'every' begins.")
    )
    ends_at = models.DateTimeField(_("ends at"), null=True, blank=True)
    limit = models.PositiveIntegerField(_("limit"), null=True, blank=True, help_text=_("Of plans, altogether."))
    purpose = models.CharField(
        _("purpose"), max_length=255, blank=True, help_text=_("Only one active schedule may have it.")
    )
    state = models.CharField(_("state"), max_length=8, choices=ScheduleState.choices, default=ScheduleState.ACTIVE)
    due_at = models.DateTimeField(_("due at"), null=True, blank=True, help_text=_("Of the coming occurrence."))
    next_at = models.DateTimeField(_("next at"), null=True, blank=True, help_text=_("As due at, with jitter."))
    fired = models.PositiveIntegerField(_("fired"), default=0, help_text=_("How many plans came due."))
    decided = models.PositiveBigIntegerField(
        _("decided"), default=0, help_text=_("How many due times were decided about.")
    )
    changed_by = models.CharField(_("changed by"), max_length=255, blank=True)
    reason = models.TextField(_("reason"), blank=True, help_text=_("For its state."))
    created_at = models.DateTimeField(_("created at"), default=clock.now)

    objects = LedgerManager.from_queryset(ScheduleQuerySet)()

    class Meta:
        verbose_name = _("schedule")
        verbose_name_plural = _("schedules")
        ordering = ("id",)
        indexes = (
            models.Index(fields=("next_at",), name="dynflow_schedule_due", condition=models.Q(next_at__isnull=False)),
        )
        constraints = (
            models.UniqueConstraint(
                fields=("action",), condition=models.Q(is_declared=True), name="dynflow_schedule_declared"
            ),
            models.UniqueConstraint(
                fields=("purpose",),
                condition=models.Q(state="active") & ~models.Q(purpose=""),
                name="dynflow_schedule_purpose",
            ),
            models.CheckConstraint(
                condition=models.Q(every__isnull=False, cron="") | models.Q(every__isnull=True) & ~models.Q(cron=""),
                name="dynflow_schedule_one_timing",
                violation_error_message=_("Give either a cron line or the distance from one due time to the next."),
            ),
            models.CheckConstraint(
                condition=models.Q(state="active", due_at__isnull=False, next_at__isnull=False)
                | ~models.Q(state="active") & models.Q(due_at__isnull=True, next_at__isnull=True),
                name="dynflow_schedule_one_coming",
            ),
        )

    def __str__(self) -> str:
        return self.label or f"{self.action.rpartition('.')[2]}, {self.timing}"

    @property
    def timing(self) -> Timing:
        """When it is due, and by which policies."""
        policies = {
            "input": self.input,
            "overlap": Overlap(self.overlap),
            "missed": Missed(self.missed),
            "window": self.window,
            "jitter": self.jitter,
            "start": self.starts_at,
            "end": self.ends_at,
            "limit": self.limit,
            "purpose": self.purpose,
        }
        if self.every is None:
            return Cron(self.cron, tz=self.time_zone, **policies)
        return Every(seconds=self.every / timedelta(seconds=1), **policies)

    def times(self, after: datetime) -> Iterator[datetime]:
        """Its due times later than `after`, as many as may still make plans."""
        left = None if self.limit is None else max(self.limit - self.fired, 0)
        end = self.ends_at or FOREVER
        return islice(takewhile(lambda moment: moment <= end, self.timing.times(after, self.starts_at)), left)

    def pause(self, *, by: str, reason: str) -> None:
        """Let nothing be due any more. Saves it; whoever does it has locked it."""
        require_legal(SCHEDULE_TRANSITIONS, [self.state], ScheduleState.PAUSED)
        self.state, self.due_at, self.next_at = ScheduleState.PAUSED, None, None
        self.changed_by, self.reason = by[:255], reason
        self.save(using=ledger_alias())

    def wake(self) -> None:
        """Let it be due again, once its next due time is found. Does not save."""
        require_legal(SCHEDULE_TRANSITIONS, [self.state], ScheduleState.ACTIVE)
        self.state = ScheduleState.ACTIVE

    def await_next(self, after: datetime) -> None:
        """Let the first due time later than `after` be the coming one, or end if there is none. Does not save."""
        self.due_at, following = (*islice(self.times(after), 2), None, None)[:2]
        self.next_at = self.due_at
        if self.due_at is None:
            self.state = ScheduleState.ENDED
        elif self.jitter:
            room = self.jitter if following is None else min(self.jitter, (following - self.due_at) * JITTER_SHARE)
            self.next_at = self.due_at + random.random() * room  # noqa: S311 - spreads load, guards nothing


class Occurrence(models.Model):
    """What became of one due time of a schedule. There is one row for it at most, whoever acted."""

    id = models.BigAutoField(primary_key=True)
    schedule = models.ForeignKey(
        Schedule, models.CASCADE, related_name="occurrences", db_index=False, verbose_name=_("schedule")
    )
    due_at = models.DateTimeField(_("due at"))
    outcome = models.CharField(_("outcome"), max_length=8, choices=OccurrenceOutcome.choices)
    reason = models.TextField(_("reason"), blank=True)
    plan = models.ForeignKey(
        ExecutionPlan, models.SET_NULL, null=True, blank=True, related_name="occurrences", verbose_name=_("plan")
    )
    decided_at = models.DateTimeField(_("decided at"), default=clock.now)

    objects = LedgerManager.from_queryset(LedgerQuerySet)()

    class Meta:
        verbose_name = _("occurrence")
        verbose_name_plural = _("occurrences")
        ordering = ("schedule", "-due_at")
        constraints = (models.UniqueConstraint(fields=("schedule", "due_at"), name="dynflow_occurrence_once"),)

    def __str__(self) -> str:
        return f"{self.due_at:%Y-%m-%d %H:%M:%S %Z}: {self.outcome}"
