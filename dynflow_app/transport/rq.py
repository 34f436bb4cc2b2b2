"""Doorbells over Redis, for orchestrators and RQ workers.

Two kinds of bell. Our own worker class waits on a short Redis list per queue. A stock RQ worker only understands RQ
jobs, so for queues that one may listen to, a ring also enqueues the job `DRAIN`, of which at most one is outstanding
per queue. Keys carry the installation's random name, so two databases may share a Redis.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import redis
from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django_rq import get_queue
from django_rq.connection_utils import get_redis_connection
from redis.backoff import NoBackoff
from redis.lock import Lock
from redis.retry import Retry

from dynflow_app.conf import settings
from dynflow_app.models import Leadership
from dynflow_app.transport.base import TransportError

_log = logging.getLogger("dynflow_app.transport")

DRAIN = "dynflow_app.worker.jobs.drain"
MOST_RINGS = 16
"""Rings kept per queue: enough to wake as many idle children, few enough to cost nothing if nobody listens."""
DRAIN_AGAIN_AFTER = 30
"""Seconds after which another drain job is enqueued although the last one has not begun."""
OWN_WORKERS_KEPT = 3600
"""Seconds after which the names of workers that no longer say that they listen are forgotten."""
SOCKET_TIMEOUT = 5.0
ASKING_TIMEOUT = 0.25
"""Seconds that a question of the console may take."""


class RqTransport:
    """Implements `Transport` with the Redis that ``RQ_QUEUES`` names."""

    def __str__(self) -> str:
        return f"Redis at {self.address}"

    def ring_orchestrator(self) -> None:
        """Push onto the orchestrator's bell."""
        try:
            pipe = self._client.pipeline(transaction=False)
            self._push(pipe, self._orchestrators_bell, 1)
            pipe.execute()
        except redis.RedisError as error:
            _unheard(error)

    def ring_queues(self, ready: Mapping[str, int]) -> None:
        """Push onto the bells of queues with ready steps; wake stock workers by a job."""
        names = [name for name, count in ready.items() if count > 0]
        if not names:
            return
        try:
            pipe = self._client.pipeline(transaction=False)
            for name in names:
                self._push(pipe, self._bell(name), min(ready[name], MOST_RINGS))
            for name in names:
                pipe.sdiff([f"rq:workers:{name}", self._own_workers(name)])
                pipe.sunion([f"rq:workers:{name}", self._own_workers(name)])
            answers = pipe.execute()[-2 * len(names) :]
            for position, name in enumerate(names):
                foreign, anybody = answers[2 * position], answers[2 * position + 1]
                if foreign or not anybody:  # ours say that they listen before RQ knows of them
                    self._enqueue_drain(name)
        except redis.RedisError as error:
            _unheard(error)

    def wait_orchestrator(self, timeout: float) -> bool:
        """Wait on the orchestrator's bell."""
        return self._wait([self._orchestrators_bell], timeout)

    def wait_queues(self, queues: Sequence[str], timeout: float) -> bool:
        """Wait on the bells of `queues`. While Redis is away, answers yes now and then: look into the ledger."""
        return self._wait([self._bell(name) for name in queues], timeout)

    def lease(self, seconds: float) -> RedisLease:
        """The leader's lease in the Redis of the orchestrator's queue."""
        return RedisLease(self._client, f"{self._prefix}:leader", seconds)

    def check(self) -> None:
        """Ping. Raises `TransportError`."""
        try:
            self._client.ping()
        except redis.RedisError as error:
            raise self._away(error) from error

    def is_suspended(self) -> bool:
        """Whether RQ's flag is set."""
        try:
            return bool(self._quick_client.exists("rq:suspended"))
        except redis.RedisError as error:
            raise self._away(error) from error

    def stock_workers(self, queue: str) -> int:
        """Registered for the queue, not ours, and not expired: RQ leaves the names of killed workers in its sets."""
        try:
            foreign = self._quick_client.sdiff([f"rq:workers:{queue}", self._own_workers(queue)])
            return int(self._quick_client.exists(*foreign)) if foreign else 0
        except redis.RedisError as error:
            raise self._away(error) from error

    @property
    def address(self) -> str:
        """Where Redis is, without secrets."""
        given = self._client.connection_pool.connection_kwargs
        return str(given.get("path") or f"{given.get('host', 'localhost')}:{given.get('port', 6379)}")

    def pass_on(self, queues: Sequence[str]) -> None:
        """Push onto the bells again, without a job: a stock worker that took it would do the same, round and round."""
        try:
            pipe = self._client.pipeline(transaction=False)
            for name in queues:
                self._push(pipe, self._bell(name), 1)
            pipe.execute()
        except redis.RedisError as error:
            _unheard(error)

    def listens(self, name: str, queues: Sequence[str]) -> None:
        """Note that the RQ worker `name` hears the bells of `queues`, so it needs no drain jobs."""
        try:
            pipe = self._client.pipeline(transaction=False)
            for queue in queues:
                pipe.sadd(self._own_workers(queue), f"rq:worker:{name}")
                pipe.expire(self._own_workers(queue), OWN_WORKERS_KEPT)
            pipe.execute()
        except redis.RedisError as error:
            _unheard(error)

    def drain_begins(self, queue: str) -> None:
        """A drain job started, so the next ring may enqueue another."""
        self._client.delete(f"{self._prefix}:draining:{queue}")

    # --- helpers ---------------------------------------------------------------------------------------------

    @cached_property
    def _client(self) -> redis.Redis:
        return _limited(_connection(), SOCKET_TIMEOUT, retries=1)

    @cached_property
    def _quick_client(self) -> redis.Redis:
        client = _connection()
        if client.connection_pool is self._client.connection_pool:  # of a cache; short limits would end other waits
            return client
        return _limited(client, ASKING_TIMEOUT, retries=0)

    def _away(self, error: Exception) -> TransportError:
        return TransportError(f"Redis at {self.address} does not answer: {error}")

    @cached_property
    def _prefix(self) -> str:
        return f"dynflow:{Leadership.objects.installation().hex[:12]}"

    @property
    def _orchestrators_bell(self) -> str:
        return f"{self._prefix}:orchestrator"  # no queue's: a worker of that name must not take its rings

    def _bell(self, queue: str) -> str:
        return f"{self._prefix}:bell:{queue}"

    def _own_workers(self, queue: str) -> str:
        return f"{self._prefix}:workers:{queue}"

    def _push(self, pipe: Any, bell: str, rings: int) -> None:  # redis-py's pipelines are not typed
        pipe.rpush(bell, *([b""] * rings))
        pipe.ltrim(bell, 0, MOST_RINGS - 1)

    def _enqueue_drain(self, queue: str) -> None:
        if queue not in django_settings.RQ_QUEUES:  # renamed or removed since the step was planned
            _log.warning("no queue %r in RQ_QUEUES, where steps are ready", queue, extra={"action": "queue_missing"})
        elif self._client.set(f"{self._prefix}:draining:{queue}", b"", nx=True, ex=DRAIN_AGAIN_AFTER):
            get_queue(queue, commit_mode="auto").enqueue(
                DRAIN,
                queue,
                job_timeout=-1,
                result_ttl=1,
                failure_ttl=3600,
                description=f"run steps of {queue}",
            )

    def _wait(self, bells: list[str], timeout: float) -> bool:
        try:
            return self._client.blpop(bells, timeout=timeout) is not None
        except redis.RedisError as error:
            _unheard(error)
            time.sleep(min(timeout, 1.0))
            return True


class RedisLease:
    """redis-py's lock, with its losses made explicit."""

    def __init__(self, client: redis.Redis, key: str, seconds: float) -> None:
        self._lock = Lock(client, key, timeout=seconds, blocking=False, thread_local=False)

    def acquire(self) -> bool:
        """Take the lease if nobody has it."""
        try:
            return bool(self._lock.acquire(blocking=False))
        except redis.RedisError as error:
            raise TransportError(str(error)) from error

    def renew(self) -> bool:
        """Extend it to its full length; False if it is not ours any more."""
        try:
            return bool(self._lock.reacquire())
        except redis.exceptions.LockError:
            return False
        except redis.RedisError as error:
            raise TransportError(str(error)) from error

    def release(self) -> None:
        """Give it up if it is ours; if Redis does not answer, it expires."""
        try:
            if self._lock.owned():
                self._lock.release()
        except redis.RedisError as error:
            _unheard(error)


def _connection() -> redis.Redis:
    name = settings.ORCHESTRATOR_QUEUE
    try:
        client: redis.Redis = get_redis_connection(django_settings.RQ_QUEUES[name])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ImproperlyConfigured(
            f"RQ_QUEUES[{name!r}] must say where Redis is, such as {{'URL': 'redis://localhost:6379/0'}}: {error!r}"
        ) from error
    return client


def _limited(client: redis.Redis, timeout: float, *, retries: int) -> redis.Redis:
    """The defaults of redis-py retry silently for a minute; the callers here know better what to do meanwhile."""
    client.connection_pool.connection_kwargs.update(
        socket_timeout=timeout, socket_connect_timeout=timeout, retry=Retry(NoBackoff(), retries)
    )
    return client


def _unheard(error: Exception) -> None:
    _log.warning("Redis does not answer: %s", error, extra={"action": "unheard"})
