"""Workers: processes that claim ready steps, run them and record what came of it.

``RQ = {"WORKER_CLASS": "dynflow_app.worker.Worker"}`` makes plain ``manage.py rqworker`` start a parent with
long-lived children; under any other RQ worker class the same steps run through `dynflow_app.worker.jobs`.
"""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:  # RQ's worker class, imported only where RQ is used
    if name == "Worker":
        from dynflow_app.worker.processes.rq_worker import Worker

        return Worker
    raise AttributeError(name)
