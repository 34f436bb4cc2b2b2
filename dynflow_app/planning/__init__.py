"""Planning: from users' ``plan`` methods to rows."""

from __future__ import annotations

from dynflow_app.planning.draft import Draft, queue_of
from dynflow_app.planning.previewing import ActionPreview, Preview, StepPreview, preview_of
from dynflow_app.planning.storing import store, store_failures, store_planned, store_unplanned

__all__ = [
    "ActionPreview",
    "Draft",
    "Preview",
    "StepPreview",
    "preview_of",
    "queue_of",
    "store",
    "store_failures",
    "store_planned",
    "store_unplanned",
]
