"""The bus: a Redis stream, read by one consumer of one group.

What was read and not acknowledged stays pending with the consumer, so whoever reads next under the same name gets it
again, first. That is what makes it safe to be killed anywhere.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any

import redis
from django.conf import settings

GROUP = "dynflow"
CONSUMER = "drain"
"""One name for all workers: the schedule lets only one of them read at a time."""
TIMEOUT = 5.0
"""Seconds that the bus may take to answer."""

_log = logging.getLogger("project.events")

Received = list[tuple[str, dict[str, str]]]
"""Messages: id and fields."""


class Bus:
    """An open connection to the stream ``EVENTS_STREAM`` of the server ``EVENTS_URL``."""

    def __init__(self) -> None:
        self._stream: str = settings.EVENTS_STREAM
        self._redis: Any = redis.Redis.from_url(
            settings.EVENTS_URL,
            decode_responses=True,
            encoding_errors="backslashreplace",
            socket_timeout=TIMEOUT,
            socket_connect_timeout=TIMEOUT,
        )
        self._join()
        _log.info("process %d opened a connection to the bus", os.getpid())

    def check(self) -> bool:
        """Whether the server answers; one that came back empty gets our group again."""
        self._join()
        return True

    def _join(self) -> None:
        try:
            self._redis.xgroup_create(self._stream, GROUP, id="0", mkstream=True)
        except redis.ResponseError as error:
            if "BUSYGROUP" not in str(error):  # otherwise it is there already, as it should be
                raise

    def close(self) -> None:
        """End the connection."""
        self._redis.close()

    def read(self, number: int) -> Received:
        """At most `number` messages that nobody has acknowledged, the oldest first; does not wait for more."""
        for since in ("0", ">"):  # first what was read before and not acknowledged
            answer = self._redis.xreadgroup(GROUP, CONSUMER, {self._stream: since}, count=number)
            if answer and answer[0][1]:
                return [(message_id, _storable(fields)) for message_id, fields in answer[0][1]]
        return []

    def acknowledge(self, ids: Sequence[str]) -> None:
        """They are stored: the bus may forget them."""
        with self._redis.pipeline() as pipeline:
            pipeline.xack(self._stream, GROUP, *ids)
            pipeline.xdel(self._stream, *ids)
            pipeline.execute()

    def publish(self, *bodies: dict[str, str]) -> None:
        """Add messages, as other systems do."""
        with self._redis.pipeline(transaction=False) as pipeline:
            for body in bodies:
                pipeline.xadd(self._stream, body)
            pipeline.execute()


def _storable(fields: dict[str, str]) -> dict[str, str]:
    """A message that no database takes would be read again for ever."""
    return {key.replace("\0", "\\0"): value.replace("\0", "\\0") for key, value in fields.items()}
