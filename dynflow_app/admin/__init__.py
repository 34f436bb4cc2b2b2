"""The console: plans and processes in Django's admin, to look at; schedules, to make and change."""

from __future__ import annotations

from dynflow_app.admin.execution_plan import ExecutionPlanAdmin
from dynflow_app.admin.schedule import ScheduleAdmin
from dynflow_app.admin.world import WorldAdmin

__all__ = ["ExecutionPlanAdmin", "ScheduleAdmin", "WorldAdmin"]
