"""Attempts as they are shown: a first one that succeeded has no row of its own, its facts stand on the step."""

from __future__ import annotations

from typing import Any

from dynflow_app.messages import EndedAs
from dynflow_app.models import Step


def first_success(step: Step) -> dict[str, Any]:
    """What a row of `Attempt` would say of a step whose only attempt succeeded (`Step.is_first_success`)."""
    return {
        "step_id": step.pk,
        "number": step.attempt,
        "ended_as": EndedAs.SUCCEEDED.value,
        "worker": step.worker,
        "started_at": step.started_at,
        "ended_at": step.ended_at,
        "error_class": None,
        "message": None,
        "error_message": None,
    }
