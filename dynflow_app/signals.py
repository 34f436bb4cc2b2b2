"""Django signals we announce, after commit and robustly: a failing receiver cannot break the engine.

They inform; nothing in dynflow_app is controlled by them. ``sender`` is always the model class.
"""

from __future__ import annotations

import logging
from typing import Any

from django.dispatch import Signal

#: A plan stopped or paused. Arguments: ``plan_id``, ``state``, ``result``. Sent by the process that decided it.
plan_settled = Signal()
#: A step ended in error. Arguments: ``plan_id``, ``step_id``, ``attempt``, ``message``.
step_failed = Signal()
#: A result came too late: the attempt had been declared lost. Arguments: ``step_id``, ``attempt``.
outcome_refused = Signal()
#: A step ended before it could handle events that were sent to it. Arguments: ``step_id``, ``number`` (of events).
events_dropped = Signal()
#: A process is gone. Arguments: ``world_id``, ``worker``, ``lost`` and ``handed_back`` (numbers of steps).
world_invalidated = Signal()
#: An orchestrator began to lead, or stopped leading. Arguments: ``leading``, ``epoch``, ``holder``, ``reason``.
orchestrator_role_changed = Signal()
#: One plan could not be advanced and was left as it is. Arguments: ``plan_id``, ``error``.
orchestration_failed = Signal()

_log = logging.getLogger("dynflow_app.signals")


def announce(signal: Signal, sender: Any, **arguments: Any) -> None:  # senders are model classes of any kind
    """Send `signal` robustly; log receivers that raise."""
    for receiver, answer in signal.send_robust(sender, **arguments):
        if isinstance(answer, Exception):
            _log.error("receiver failed", exc_info=answer, extra={"action": "announce", "receiver": repr(receiver)})
