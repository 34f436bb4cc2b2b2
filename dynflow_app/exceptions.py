"""What dynflow_app raises. Every message says what to do next; facts are attributes.

One family, `DynflowError`, so that callers can catch all of it.
"""

from __future__ import annotations

from typing import Any


class DynflowError(Exception):
    """Something in dynflow_app went wrong."""

    def __init__(self, message: str = "", **facts: Any) -> None:  # facts are whatever the raiser knows
        super().__init__(message or (self.__doc__ or "").strip())
        self.__dict__.update(facts)


class PlanningError(DynflowError):
    """The plan phase broke a rule: unknown queue, reference without a step, verb used in the wrong phase."""


class NotSerializableError(DynflowError):
    """A value cannot be stored as JSON and come back the same; ``path`` names it, such as ``input.hosts[3]``."""


class UnknownActionError(DynflowError):
    """No installed app has an action of this name in its ``actions`` module."""


class WrongStateError(DynflowError):
    """The state of the plan or step forbids this verb; ``state`` holds the state found."""


class MissingReferenceError(DynflowError):
    """A step refers to a key that the output of another step does not have, or to a step that was skipped."""


class WaitTimeoutError(DynflowError):
    """The plan did not end in the given time. It goes on regardless."""


class LostLeadershipError(DynflowError):
    """Another orchestrator leads: the ledger has a newer epoch. Nothing of this transaction was written."""


class SchemaOutdatedError(DynflowError):
    """The database lacks migrations of dynflow_app. Run ``manage.py migrate``."""
