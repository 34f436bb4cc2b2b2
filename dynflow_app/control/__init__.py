"""Control: the verbs of operators. Admin, REST and commands only call these.

Each is one transaction of its own (or part of the caller's), guarded by the state it expects, with an entry in the
plan's history. Of two people at once one wins and the other gets `WrongStateError`, saying what is there now.
"""

from __future__ import annotations

from dynflow_app.control.bulk import BulkReport, in_bulk
from dynflow_app.control.events import send_event
from dynflow_app.control.freezing import freeze, unfreeze
from dynflow_app.control.locking import unlock
from dynflow_app.control.making import rerun, revert, revert_preview
from dynflow_app.control.resuming import resume, retry
from dynflow_app.control.schedules import (
    make_schedule,
    pause_schedule,
    preview,
    resume_schedule,
    run_now,
    save_schedule,
    skip_next,
)
from dynflow_app.control.skipping import skip, skip_preview
from dynflow_app.control.stopping import abort, cancel, halt

__all__ = [
    "BulkReport",
    "abort",
    "cancel",
    "freeze",
    "halt",
    "in_bulk",
    "make_schedule",
    "pause_schedule",
    "preview",
    "rerun",
    "resume",
    "resume_schedule",
    "retry",
    "revert",
    "revert_preview",
    "run_now",
    "save_schedule",
    "send_event",
    "skip",
    "skip_next",
    "skip_preview",
    "unfreeze",
    "unlock",
]
