"""The rows of the ledger. Everything public is imported here; other packages import from here.

Modules inside import one way only: base, execution_plan, action, gate, world, step, and what refers to them.
"""

from __future__ import annotations

from dynflow_app.models.action import Action, OutputChunk
from dynflow_app.models.envelope import Envelope
from dynflow_app.models.event import Event
from dynflow_app.models.execution_plan import ExecutionPlan
from dynflow_app.models.gate import Dependency, Gate
from dynflow_app.models.history import HistoryEntry
from dynflow_app.models.leadership import Leadership, Term
from dynflow_app.models.limit import Limit
from dynflow_app.models.prerequisite import Prerequisite
from dynflow_app.models.resource_lock import ResourceLink, ResourceLock
from dynflow_app.models.schedule import Occurrence, Schedule
from dynflow_app.models.step import Attempt, Step
from dynflow_app.models.sub_plans import SubPlans
from dynflow_app.models.ticket import Ticket
from dynflow_app.models.world import World, WorldKind

__all__ = [
    "Action",
    "Attempt",
    "Dependency",
    "Envelope",
    "Event",
    "ExecutionPlan",
    "Gate",
    "HistoryEntry",
    "Leadership",
    "Limit",
    "Occurrence",
    "OutputChunk",
    "Prerequisite",
    "ResourceLink",
    "ResourceLock",
    "Schedule",
    "Step",
    "SubPlans",
    "Term",
    "Ticket",
    "World",
    "WorldKind",
]
