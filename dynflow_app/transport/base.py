"""What a transport does: rings doorbells and waits for rings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol


class Lease(Protocol):
    """The right to try to lead, for a limited time."""

    def acquire(self) -> bool:
        """Take the lease if nobody has it. Raises `TransportError` when that cannot be known."""

    def renew(self) -> bool:
        """Extend it; False if somebody else has it now. Raises `TransportError`."""

    def release(self) -> None:
        """Give it up, if it is ours. Never raises."""


class TransportError(Exception):
    """Redis did not answer as it should."""


class Transport(Protocol):
    """Rings never raise; waits return at the latest after their timeout, in seconds."""

    def ring_orchestrator(self) -> None:
        """There is an envelope."""

    def ring_queues(self, ready: Mapping[str, int]) -> None:
        """There are so many ready steps in these queues."""

    def wait_orchestrator(self, timeout: float) -> bool:
        """Wait for a ring for the orchestrator; whether there was one."""

    def wait_queues(self, queues: Sequence[str], timeout: float) -> bool:
        """Wait for a ring for any of `queues`; whether there was one."""

    def pass_on(self, queues: Sequence[str]) -> None:
        """Give a ring that was heard back, for whoever else waits for one of `queues`."""

    def listens(self, name: str, queues: Sequence[str]) -> None:
        """The worker `name` waits for rings of `queues`. Said again and again; never raises."""

    def lease(self, seconds: float) -> Lease:
        """The leader's lease."""

    def check(self) -> None:
        """Raise `TransportError`, naming the address without secrets, unless rings can be heard now."""

    def is_suspended(self) -> bool:
        """Whether RQ's workers were told to take no jobs. Answers, or raises `TransportError`, in a fraction of a
        second: for people who wait for a page."""

    def stock_workers(self, queue: str) -> int:
        """How many RQ workers of other classes than ours are registered for `queue`; ours are in the ledger. As quick
        as `is_suspended`; raises `TransportError`."""
