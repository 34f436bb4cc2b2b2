"""The only source of time: tests replace these two functions, nothing else asks the system."""

from __future__ import annotations

import time
from datetime import datetime

from django.utils import timezone


def now() -> datetime:
    """Current time, aware, in UTC unless the project activated a zone."""
    return timezone.now()


def monotonic() -> float:
    """Seconds that never jump, for durations and trust windows."""
    return time.monotonic()
