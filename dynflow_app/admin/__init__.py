"""The console: plans and processes in Django's admin, to look at."""

from __future__ import annotations

from dynflow_app.admin.execution_plan import ExecutionPlanAdmin
from dynflow_app.admin.world import WorldAdmin

__all__ = ["ExecutionPlanAdmin", "WorldAdmin"]
