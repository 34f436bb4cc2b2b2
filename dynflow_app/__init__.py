"""Durable workflows for Django: plans are rows, Redis is a doorbell, nothing is replayed.

This package root exports what authors of actions need and imports no models, so an app's ``actions`` module may be
imported at any time. Application code triggers through `dynflow_app.triggering`, operators through
`dynflow_app.control`.
"""

from __future__ import annotations

from dynflow_app.actions.base import BaseAction
from dynflow_app.actions.polling import PollingAction
from dynflow_app.actions.rate import Rate
from dynflow_app.actions.resource import WorkerResource
from dynflow_app.actions.retry import Retry
from dynflow_app.actions.sub_plans import SubPlansAction
from dynflow_app.engine.timing import Cron, Every
from dynflow_app.exceptions import Cancel
from dynflow_app.messages import Event
from dynflow_app.states import Missed, OnConflict, Overlap, Rescue

__version__ = "0.1.0"
__all__ = [
    "BaseAction",
    "Cancel",
    "Cron",
    "Event",
    "Every",
    "Missed",
    "OnConflict",
    "Overlap",
    "PollingAction",
    "Rate",
    "Rescue",
    "Retry",
    "SubPlansAction",
    "WorkerResource",
]
