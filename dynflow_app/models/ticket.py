"""Tickets: the queue. Every step that waits for a worker, or has one, holds a ticket; no other step does.

The table is narrow and never larger than what is going on, so all that is asked of it again and again (what comes
next in a queue, what a world has, what a limit keeps back) costs the same whatever the ledger has seen. And the wide
rows of steps need no index that changes with their state.

Fair order (start-time fair queueing): within a queue and a priority the smallest *tag* comes first. Steps that share a
fairness key (those of one plan with its sub-plans, unless it says otherwise) get ascending tags, one over the weight
apart, which begin no lower than the smallest tag that is ready: the queue's virtual time. So whoever comes new is
served beside those who have thousands in line, not after them.

Order of locks: tickets before the steps they belong to, whoever takes a step that is ready. A ticket that does not
exist yet is nobody's, so whoever makes a step ready changes the step first.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any
from uuid import UUID

from django.db import models
from django.utils.translation import gettext_lazy as _

from dynflow_app.models.base import (
    LedgerManager,
    LedgerQuerySet,
    db_key,
    execute,
    greatest,
    is_any_of,
    is_postgresql,
    ledger_connection,
)
from dynflow_app.models.execution_plan import ExecutionPlan
from dynflow_app.models.step import Step
from dynflow_app.models.world import World

_STEP = Step._meta.db_table
_PLAN = ExecutionPlan._meta.db_table

CLAIMABLE = models.Q(world__isnull=True, throttled_by__isnull=True)


class TicketQuerySet(LedgerQuerySet["Ticket"]):
    """Tickets in bulk."""

    def claimable(self) -> TicketQuerySet:
        """Those of ready steps that no limit keeps back."""
        return self.filter(CLAIMABLE)

    def throttled(self) -> TicketQuerySet:
        """Those of ready steps that wait for their limit to let them pass."""
        return self.filter(throttled_by__isnull=False)

    def running(self) -> TicketQuerySet:
        """Those of steps that a world has claimed."""
        return self.filter(world__isnull=False)

    def draw(self, step_ids: Collection[int]) -> None:
        """Put these steps, which have just become ready, in line; or to their limit, if they have one."""
        if step_ids:
            inside, parameters = is_any_of(ledger_connection(), "step.id", step_ids)
            execute(draw_sql(f"SELECT {_FRESH} WHERE {inside}"), parameters)

    def draw_for_plans(self, plan_ids: Collection[Any]) -> None:
        """As `draw`, for all ready steps of plans that this transaction has stored."""
        connection = ledger_connection()
        keys = [db_key(plan_id, connection) for plan_id in plan_ids]
        inside, parameters = is_any_of(connection, "step.plan_id", keys)
        execute(draw_sql(f"SELECT {_FRESH} WHERE {inside} AND step.state = 'ready'"), parameters)

    def hand_in(self, step_ids: Collection[int]) -> None:
        """These steps, which are this transaction's, wait for no worker any more and have none."""
        if step_ids:
            inside, parameters = is_any_of(ledger_connection(), "step_id", step_ids)
            execute(f"DELETE FROM {Ticket._meta.db_table} WHERE {inside}", parameters)  # noqa: S608 - names are ours

    def give_back(self) -> int:
        """Steps that a world had claimed can be claimed again, at their old turn; those that are throttled stay so."""
        return self.filter(world__isnull=False).update(world=None)

    def withdraw(self, step_ids: Collection[int]) -> list[int]:
        """Take those of these steps out of the line that nobody has claimed; returns which these are. From then on
        nobody else can take them."""
        if not step_ids:
            return []
        ours = Ticket._meta.db_table
        inside, parameters = is_any_of(ledger_connection(), "step_id", step_ids)
        lock = "ORDER BY step_id FOR UPDATE" if is_postgresql(ledger_connection()) else ""
        waiting = f"SELECT step_id FROM {ours} WHERE {inside} AND world_id IS NULL {lock}"  # noqa: S608 - names are ours
        sql = f"DELETE FROM {ours} WHERE step_id IN ({waiting}) RETURNING step_id"  # noqa: S608 - names are ours
        return [row[0] for row in execute(sql, parameters)]

    def queues(self) -> list[str]:
        """The queues in which something can be claimed. As many look-ups as there are, however long they are."""
        ours = Ticket._meta.db_table
        claimable = f"SELECT queue FROM {ours} WHERE {CLAIMABLE_SQL}"  # noqa: S608 - names are ours
        sql = f"""
            WITH RECURSIVE found(queue) AS (
                SELECT (SELECT MIN(queue) FROM ({claimable}) AS first)
                UNION ALL
                SELECT (SELECT MIN(later.queue) FROM ({claimable}) AS later WHERE later.queue > found.queue)
                FROM found WHERE found.queue IS NOT NULL
            )
            SELECT queue FROM found WHERE queue IS NOT NULL
        """  # noqa: S608 - names are ours
        return [row[0] for row in execute(sql)]


class Ticket(models.Model):
    """The place of one step in its queue, until its outcome is recorded."""

    step = models.OneToOneField(
        Step, models.CASCADE, primary_key=True, related_name="ticket", db_constraint=False, verbose_name=_("step")
    )
    queue = models.CharField(_("queue"), max_length=100)
    rank = models.SmallIntegerField(_("rank"), help_text=_("Minus its priority: the smallest comes first."))
    tag = models.FloatField(_("tag"), help_text=_("Its turn among those of its rank."))
    fairness_key = models.CharField(_("fairness key"), max_length=255, help_text=_("With whom it shares its turns."))
    throttled_by = models.CharField(
        _("throttled by"), max_length=255, null=True, blank=True, help_text=_("The limit that keeps it back.")
    )
    world = models.ForeignKey(
        World,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="tickets",
        db_index=False,
        db_constraint=False,
        verbose_name=_("world"),
        help_text=_("Which claimed it."),
    )

    objects = LedgerManager.from_queryset(TicketQuerySet)()

    class Meta:
        verbose_name = _("ticket")
        verbose_name_plural = _("tickets")
        indexes = (
            models.Index(fields=("queue", "rank", "tag", "step"), name="dynflow_ticket_to_claim", condition=CLAIMABLE),
            models.Index(
                fields=("queue", "rank", "fairness_key", "tag"), name="dynflow_ticket_last_tag", condition=CLAIMABLE
            ),
            models.Index(
                fields=("throttled_by", "rank", "step"),
                name="dynflow_ticket_to_admit",
                condition=models.Q(throttled_by__isnull=False),
            ),
            models.Index(fields=("world",), name="dynflow_ticket_to_recover", condition=models.Q(world__isnull=False)),
        )

    def __str__(self) -> str:
        return f"ticket of step {self.step_id}"


def own_key(plan_id: UUID) -> str:
    """The fairness key of plans that share their turns with nobody but their sub-plans."""
    return str(db_key(plan_id, ledger_connection()))


CLAIMABLE_SQL = "world_id IS NULL AND throttled_by IS NULL"
_FRESH = f"""step.id, step.queue, -step.priority AS rank, plan.fairness_weight,
    CASE WHEN plan.fairness_key = '' THEN CAST(plan.id AS varchar(255)) ELSE plan.fairness_key END AS fairness_key,
    CASE WHEN step.slot IS NULL THEN step.limit_key END AS limit_key
    FROM {_STEP} AS step JOIN {_PLAN} AS plan ON plan.id = step.plan_id"""


def draw_sql(fresh: str) -> str:
    """The statement that draws tickets for the steps that `fresh` selects: id, queue, rank, fairness weight and key,
    key of the limit that throttles it. Their tags follow on the last of their fairness key, or on the queue's virtual
    time."""
    ours = Ticket._meta.db_table
    greater = greatest(ledger_connection())

    def of_line(what: str, more: str) -> str:
        return f"""COALESCE((SELECT {what}(tag) FROM {ours} AS line WHERE line.queue = shares.queue
            AND line.rank = shares.rank {more} AND line.world_id IS NULL AND line.throttled_by IS NULL), 0)"""  # noqa: S608

    return f"""
        INSERT INTO {ours} (step_id, queue, rank, tag, fairness_key, throttled_by)
        WITH fresh AS ({fresh}),
        lasts AS MATERIALIZED (  -- else the ends of the line are looked up again for each step
            SELECT queue, rank, fairness_key,
                {greater}({of_line("MIN", "")}, {of_line("MAX", "AND line.fairness_key = shares.fairness_key")}) AS tag
            FROM (SELECT DISTINCT queue, rank, fairness_key FROM fresh) AS shares
        )
        SELECT fresh.id, fresh.queue, fresh.rank,
            lasts.tag + ROW_NUMBER() OVER (
                PARTITION BY fresh.queue, fresh.rank, fresh.fairness_key ORDER BY fresh.id
            ) / fresh.fairness_weight,
            fresh.fairness_key, fresh.limit_key
        FROM fresh JOIN lasts ON lasts.queue = fresh.queue AND lasts.rank = fresh.rank
            AND lasts.fairness_key = fresh.fairness_key
        ORDER BY fresh.id
    """  # noqa: S608 - names are ours


def readmit_sql(picked: str) -> str:
    """The statement that lets throttled steps of `picked` (step ids) pass: their turn begins now."""
    ours = Ticket._meta.db_table
    return f"""
        UPDATE {ours} SET throttled_by = NULL, tag = (
            SELECT COALESCE(MIN(line.tag), 0) FROM {ours} AS line WHERE line.queue = {ours}.queue
            AND line.rank = {ours}.rank AND line.world_id IS NULL AND line.throttled_by IS NULL
        ) WHERE step_id IN ({picked}) AND throttled_by IS NOT NULL
        RETURNING step_id, queue
    """  # noqa: S608 - names are ours
