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


class IllegalTransitionError(DynflowError):
    """Code of dynflow_app asked for a change of state that the tables in `states` do not have: a defect of ours."""


class AlreadyActiveError(DynflowError):
    """Another plan of this singleton action is active; ``plan_id`` holds its key, if it could be seen."""


class DuplicateEventError(WrongStateError):
    """An event with this key was sent before; nothing was stored."""


class StepTimeoutError(DynflowError):
    """The step took longer than its ``timeout``, or than the ``timeout`` it suspended itself with."""


class SubPlansFailedError(DynflowError):
    """Not all sub-plans of a step went well; the message says how many. Resuming the plan gives them another try."""


class InvalidDataError(DynflowError):
    """Input or output does not fit the ``Input`` or ``Output`` class of its action; the message says where."""


class SealingError(DynflowError):
    """A secret cannot be sealed, or what was sealed cannot be opened; see the setting ``ENCRYPTION_KEYS``."""


class CallbackError(DynflowError):
    """A callback was refused: its URL was changed, has expired, or was used before; ``reason`` says which."""


class MissingReferenceError(DynflowError):
    """A step refers to a key that the output of another step does not have, or to a step that was skipped."""


class WaitTimeoutError(DynflowError):
    """The plan did not end in the given time. It goes on regardless."""


class ArchiveError(DynflowError):
    """The archive of a clean-up cannot be written. No plan was deleted that is not in it."""


class LostLeadershipError(DynflowError):
    """Another orchestrator leads: the ledger has a newer epoch. Nothing of this transaction was written."""


class SchemaOutdatedError(DynflowError):
    """The database lacks migrations of dynflow_app. Run ``manage.py migrate``."""


class ControlFlow(BaseException):
    """Ends an invocation without being an error. No `Exception`, so that ``except Exception`` does not swallow it."""


class Suspend(ControlFlow):
    """Raised by ``self.suspend()``: the step waits, and holds neither thread nor memory meanwhile."""

    def __init__(
        self, *, timeout: float | None = None, wake_after: float | None = None, wakes_below: int | None = None
    ) -> None:
        super().__init__("suspended")
        self.wakes_below = wakes_below
        self.timeout = timeout
        self.wake_after = wake_after


class Cancel(ControlFlow):
    """Raised by ``self.check_cancelled()``, or by an action that wants its own step to be cancelled."""


class Abort(ControlFlow):
    """Injected into a thread whose step has to end now."""
