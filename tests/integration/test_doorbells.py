"""Redis only carries hints: losing all of them costs moments, never work."""

from __future__ import annotations

import pytest
import redis

from dynflow_app import triggering
from project.servers import EmbeddedServers
from tests.support import Processes, wait_until
from tests.testapp import actions
from tests.testapp.journal import VARIABLE, Journal


@pytest.mark.servers
@pytest.mark.processes
@pytest.mark.parametrize("times", [1, 3])
def test_emptying_redis_loses_no_step_and_repeats_none(
    processes: Processes, servers: EmbeddedServers, journal: Journal, times: int
) -> None:
    """Scenario 43: Redis emptied while 1,000 steps are half done; all end, each ran exactly once."""
    # given an orchestrator, a worker, and 1,000 steps in ten rows
    environ = {VARIABLE: str(journal.folder), "LOG_LEVEL": "INFO"}
    processes.manage("dynflow_orchestrator", **environ)
    processes.manage("rqworker", "default", **environ)
    plan = triggering.trigger(actions.SlowRows, rows=10, width=100, seconds=0.02)

    # when Redis forgets everything in the middle
    with redis.Redis.from_url(servers.environ["REDIS_URL"]) as connection:
        for number in range(times):
            reached = 500 // times * (number + 1)
            wait_until(lambda: len(journal.lines) >= reached, describe=f"{reached} steps")  # noqa: B023 - called here
            connection.flushall()
    assert len(journal.lines) < 1000

    # then all end, and each ran exactly once
    plan.wait(timeout=60)
    assert f"{plan.state}/{plan.result}" == "stopped/success"
    assert len(journal.lines) == 1000
    assert len(set(journal.lines)) == 1000

    # and what is triggered afterwards runs as ever
    again = triggering.trigger(actions.SlowRows, rows=2, width=10, seconds=0)
    again.wait(timeout=30)
    assert f"{again.state}/{again.result}" == "stopped/success"
