"""Leading: the lease in Redis decides who tries, the epoch in the ledger decides who may.

The lease is renewed by the main loop itself, so a process whose loop hangs loses it. The holder trusts itself only
until its last successful renewal plus the lease minus a margin, by its own monotonic clock; after that it stops acting
even if it cannot reach Redis to learn more.
"""

from __future__ import annotations

from dynflow_app import clock, probes, transport
from dynflow_app.conf import settings
from dynflow_app.models import Leadership, Term
from dynflow_app.signals import announce, orchestrator_role_changed
from dynflow_app.transport.base import TransportError

TRUST_MARGIN = 0.1
"""Part of the lease that is not trusted: clocks of two machines do not run at exactly the same speed."""


class Leader:
    """This process's claim to lead."""

    def __init__(self) -> None:
        self.term: Term | None = None
        self._lease = transport.get().lease(settings.LEASE)
        self._renewed_at = 0.0

    def try_to_lead(self) -> bool:
        """Gain the lease and begin a term, if nobody else has it. Raises `TransportError`."""
        asked_at = clock.monotonic()
        if not self._lease.acquire():
            return False
        probes.reached(probes.Probe.LEASE_TAKEN)
        try:
            self.term = Leadership.objects.take()
        except BaseException:
            self._lease.release()  # somebody who reaches the database may want it
            raise
        self._renewed_at = asked_at
        self._announce(True, "took the lease")
        return True

    def still_leads(self) -> bool:
        """Renew the lease when it is time; steps down and returns False when it is lost or not trusted any more."""
        now = clock.monotonic()
        if now - self._renewed_at >= settings.LEASE_RENEW_INTERVAL:
            try:
                if not self._lease.renew():
                    self.step_down("somebody else has the lease, or Redis was emptied")
                    return False
                self._renewed_at = now
                probes.reached(probes.Probe.LEASE_RENEWED)
            except TransportError as error:
                if now - self._renewed_at > settings.LEASE * (1 - TRUST_MARGIN):
                    self.step_down(f"the lease could not be renewed: {error}")
                    return False
        return True

    def step_down(self, reason: str) -> None:
        """Stop leading and give the lease back."""
        if self.term is not None:
            self._announce(False, reason)
            self.term = None
            self._lease.release()

    def _announce(self, leading: bool, reason: str) -> None:
        if self.term is not None:
            announce(
                orchestrator_role_changed,
                Leadership,
                leading=leading,
                epoch=self.term.epoch,
                holder=self.term.holder,
                reason=reason,
            )
