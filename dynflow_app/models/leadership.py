"""Leadership: the one row that says which orchestrator may write as leader.

The lease in Redis only decides who *tries* to lead. The truth is here: whoever gains the lease raises the epoch and
signs with a fresh holder id; every transaction of a leader reads the row under a shared lock and compares both (a
database restored to an older state could hand out the same epoch twice). A leader that was stopped and woke up after
another took over therefore writes nothing.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from django.db import models, transaction
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from dynflow_app.exceptions import LostLeadershipError
from dynflow_app.models.base import (
    LedgerManager,
    LedgerQuerySet,
    db_key,
    execute,
    is_postgresql,
    ledger_alias,
    ledger_connection,
)


@dataclass(frozen=True, slots=True)
class Term:
    """The right to write as leader, until somebody raises the epoch."""

    epoch: int
    holder: uuid.UUID

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """A transaction of the leader. Raises `LostLeadershipError` unless this term still holds."""
        with transaction.atomic(using=ledger_alias()):
            self.check()
            yield

    def check(self) -> None:
        """Raise `LostLeadershipError` unless this term still holds; keeps it so until the transaction ends."""
        connection = ledger_connection()
        lock = "FOR SHARE" if is_postgresql(connection) else ""
        sql = f"SELECT 1 FROM {Leadership._meta.db_table} WHERE id = 1 AND epoch = %s AND holder = %s {lock}"  # noqa: S608 - names are ours
        if not execute(sql, [self.epoch, db_key(self.holder, connection)]):
            raise LostLeadershipError(epoch=self.epoch)


class LeadershipQuerySet(LedgerQuerySet["Leadership"]):
    """The only row."""

    def take(self) -> Term:
        """Begin a new term, ending any other. One transaction of its own."""
        with transaction.atomic(using=ledger_alias()):
            self.get_or_create(id=1)
            row = self.select_for_update().get(id=1)
            term = Term(epoch=row.epoch + 1, holder=uuid.uuid4())
            self.filter(id=1).update(epoch=term.epoch, holder=term.holder, since=Now())
        return term

    def installation(self) -> uuid.UUID:
        """The random name of this database, so that two installations may share a Redis."""
        return self.get_or_create(id=1)[0].installation


class Leadership(models.Model):
    """Who leads. One row, made by the first who asks."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    epoch = models.PositiveBigIntegerField(_("epoch"), default=0)
    holder = models.UUIDField(_("holder"), null=True)
    since = models.DateTimeField(_("since"), null=True)
    installation = models.UUIDField(_("installation"), default=uuid.uuid4)

    objects = LedgerManager.from_queryset(LeadershipQuerySet)()

    class Meta:
        verbose_name = _("leadership")
        verbose_name_plural = _("leadership")
        constraints = (models.CheckConstraint(condition=models.Q(id=1), name="dynflow_leadership_one_row"),)

    def __str__(self) -> str:
        return f"epoch {self.epoch}"
