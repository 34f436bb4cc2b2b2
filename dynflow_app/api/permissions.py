"""Who may look. DRF's model permissions ask nothing of readers, so this one does."""

from __future__ import annotations

from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView


class CanViewPlans(BasePermission):
    """Users with Django's view permission on plans."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        """Inactive users have no permission at all."""
        return request.user.has_perm("dynflow_app.view_executionplan")


class CanViewSchedules(BasePermission):
    """Users with Django's view permission on schedules."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        """Inactive users have no permission at all."""
        return request.user.has_perm("dynflow_app.view_schedule")
