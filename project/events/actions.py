"""Drain the bus every two seconds, over a connection that stays open."""

from __future__ import annotations

from dynflow_app import BaseAction, Every, Overlap, Rescue, WorkerResource
from project.events.bus import Bus
from project.events.models import Message

BATCH = 100
MOST = 20_000
"""Messages of one run, so that it ends even if they come faster than they are stored."""

bus = WorkerResource(Bus, close=Bus.close, check=Bus.check)


class DrainEvents(BaseAction):
    """Store what has arrived on the message bus.

    A message is acknowledged after the commit that stores it. Killed before the commit, it is read again; killed
    between commit and acknowledgement, it is read again too, and its key is there already.
    """

    schedule = Every(seconds=2, overlap=Overlap.SKIP)
    idempotent = True
    rescue_strategy = Rescue.FAIL  # nobody has to look at it: the next run tries again

    def run(self) -> None:
        stream = bus.get()
        while self.output.get("messages", 0) < MOST and (received := stream.read(BATCH)):
            Message.objects.bulk_create(
                [Message(id=message_id, body=fields) for message_id, fields in received], ignore_conflicts=True
            )  # a transaction of its own: when it returns, the rows are there
            stream.acknowledge([message_id for message_id, _ in received])
            self.output["messages"] = self.output.get("messages", 0) + len(received)
            self.check_cancelled()
