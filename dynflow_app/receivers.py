"""Turns signals into log lines. Messages are constant; facts are in the fields ``action``, ``plan_id`` and so on."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any

from django.apps import apps
from django.db.models.signals import post_migrate

from dynflow_app import signals
from dynflow_app.exceptions import SchemaOutdatedError
from dynflow_app.models.base import ledger_alias
from dynflow_app.processes.registration import require_schema
from dynflow_app.schedules.declaring import declare_schedules

_orchestrator = logging.getLogger("dynflow_app.orchestrator")
_worker = logging.getLogger("dynflow_app.worker")


def connect() -> None:
    """Connect every receiver, once."""
    for signal, receiver in (
        (signals.plan_settled, _plan_settled),
        (signals.step_failed, _step_failed),
        (signals.outcome_refused, _outcome_refused),
        (signals.events_dropped, _events_dropped),
        (signals.world_invalidated, _world_invalidated),
        (signals.orchestrator_role_changed, _role_changed),
        (signals.orchestration_failed, _orchestration_failed),
    ):
        signal.connect(receiver, dispatch_uid=f"dynflow_app.receivers.{receiver.__name__}")
    post_migrate.connect(
        _declare_schedules, sender=apps.get_app_config("dynflow_app"), dispatch_uid="dynflow_app.declare_schedules"
    )


def _declare_schedules(*, using: str, **_: Any) -> None:
    if using == ledger_alias():
        with suppress(SchemaOutdatedError):  # it migrates to an older state
            require_schema()
            declare_schedules()


def _plan_settled(*, plan_id: Any, state: str, result: str, **_: Any) -> None:
    level = logging.WARNING if result == "error" else logging.DEBUG
    _orchestrator.log(
        level,
        "plan %s: %s, %s",
        plan_id,
        state,
        result,
        extra={"action": "plan_settled", "plan_id": str(plan_id)},
    )


def _step_failed(*, plan_id: Any, step_id: int, attempt: int, message: str, **_: Any) -> None:
    _worker.warning(
        "step failed: %s",
        " ".join(message.split())[:300],
        extra={"action": "step_failed", "plan_id": str(plan_id), "step": step_id, "attempt": attempt},
    )


def _outcome_refused(*, step_id: int, attempt: int, **_: Any) -> None:
    _worker.warning(
        "outcome refused: the attempt had been taken back",
        extra={"action": "outcome_refused", "step": step_id, "attempt": attempt},
    )


def _events_dropped(*, step_id: int, number: int, **_: Any) -> None:
    _worker.warning(
        "%d events dropped: their step ended without handling them",
        number,
        extra={"action": "events_dropped", "step": step_id},
    )


def _world_invalidated(*, world_id: Any, worker: str, lost: int, handed_back: int, **_: Any) -> None:
    _worker.warning(
        "%s is gone: %d steps with unknown outcome, %d handed back",
        worker,
        lost,
        handed_back,
        extra={"action": "world_invalidated", "worker": worker},
    )


def _role_changed(*, leading: bool, epoch: int, reason: str, **_: Any) -> None:
    _orchestrator.warning(
        "%s: %s (epoch %d)",
        "leading" if leading else "standing by",
        reason,
        epoch,
        extra={"action": "role_changed", "epoch": epoch},
    )


def _orchestration_failed(*, plan_id: Any, error: Exception, **_: Any) -> None:
    _orchestrator.error(
        "plan set aside: it cannot be advanced",
        exc_info=error,
        extra={"action": "orchestration_failed", "plan_id": str(plan_id)},
    )
