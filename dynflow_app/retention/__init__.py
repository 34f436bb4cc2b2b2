"""Retention: stopped plans are archived and deleted when they are old enough, in batches that slow nothing down.

Needs no lock that anything else waits for long: what is locked by others is left for the next time.
"""

from __future__ import annotations

from dynflow_app.retention.archive import Archive
from dynflow_app.retention.cleaning import BATCH, MOST_BATCH, REST, Cleaned, clean_up
from dynflow_app.retention.selection import Selection

__all__ = ["BATCH", "MOST_BATCH", "REST", "Archive", "Cleaned", "Selection", "clean_up"]
