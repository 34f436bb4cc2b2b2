"""`Cleanup`: the same as ``manage.py dynflow_cleanup``, as an action, to be triggered now and then."""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext
from datetime import timedelta

from dynflow_app.actions.base import BaseAction
from dynflow_app.actions.retry import Retry
from dynflow_app.conf import settings
from dynflow_app.engine.timing import Cron
from dynflow_app.exceptions import PlanningError
from dynflow_app.retention.archive import Archive
from dynflow_app.retention.cleaning import BATCH, MOST_BATCH, clean_up
from dynflow_app.retention.selection import Selection


def nightly() -> Cron | None:
    """When old plans are cleaned up by themselves: each night, in a project that says how long it keeps them."""
    return Cron("17 3 * * *", tz="UTC", purpose="clean-up") if settings.KEEP_FOR is not None else None


class Cleanup(BaseAction):
    """Deletes stopped plans that are old enough. Ends between two batches if it is cancelled; what is gone is gone.

    Its output counts the plans, the sub-plans and the limits that it deleted. If ``KEEP_FOR`` is set, it is scheduled
    for each night.
    """

    schedule = nightly()

    idempotent = True
    retry = Retry(attempts=3)
    concurrency_limit = 1
    keep_for = timedelta(days=30)

    def plan(
        self,
        *,
        older_than_days: float | None = None,
        actions: tuple[str, ...] | list[str] = (),
        results: tuple[str, ...] | list[str] = (),
        archive: str | None = None,
        batch: int = BATCH,
        limit: int | None = None,
    ) -> None:
        """As the options of the command. `archive` is a file that the workers of this queue can write to."""
        if not 1 <= batch <= MOST_BATCH:
            raise PlanningError(f"batch={batch!r}: give a number from 1 to {MOST_BATCH:,}.")
        if older_than_days is not None and older_than_days < 0:
            raise PlanningError(f"older_than_days={older_than_days!r}: give a number from 0.")
        self.plan_self(
            older_than_days=older_than_days,
            actions=list(actions),
            results=list(results),
            archive=archive,
            batch=batch,
            limit=limit,
        )

    def run(self) -> None:
        """Clean up, and count."""
        given = self.input
        days = given["older_than_days"]
        selection = Selection(
            older_than=None if days is None else timedelta(days=days),
            actions=tuple(given["actions"]),
            results=tuple(given["results"]),
        )
        counts: Counter[str] = Counter(plans=0, sub_plans=0, limits=0)
        with Archive(given["archive"]) if given["archive"] else nullcontext() as archive:
            for cleaned in clean_up(selection, archive=archive, batch=given["batch"], limit=given["limit"]):
                counts.update(plans=cleaned.plans.total(), sub_plans=cleaned.sub_plans, limits=cleaned.limits)
                self.output.update(counts)
                self.check_cancelled()
        self.output.update(counts)
