"""The canary: an event that a node sends itself, by the whole way that all others take.

It is published to the broker and comes back through the feed and the hub, as if to a
client. While it does, what the node shows is what there is; when it is late, something on
the way is broken or behind, whatever each part says of itself.

Its job has a name that no worker can give (`!canary:…`), is in no list, and has no lease.
"""

from __future__ import annotations

import logging
from math import inf

import trio
from msgspec import Raw

from .broker import Broker
from .errors import BrokerUnavailable
from .hub import Hub
from .job import Update
from .limits import Limits
from .topic import Subscription

__all__ = ["Canary"]

log = logging.getLogger("gateway.node")


class Canary:
    """One node's. It watches its own job, so to the hub it is an outbox like any other."""

    def __init__(self, hub: Hub, broker: Broker, *, name: str, limits: Limits) -> None:
        self.job = f"!canary:{name}"
        self._hub = hub
        self._broker = broker
        self._limits = limits
        self._sent = 0
        self._back = 0
        self._sent_at = inf
        """When the oldest one was sent that is not back; on Trio's clock."""
        self.round_trip: float | None = None
        """Seconds that the last one took; None before the first is back."""

    def __repr__(self) -> str:
        return f"<Canary {self.job} {'late' if self.late else 'in time'}>"

    @property
    def out_for(self) -> float:
        """Seconds that the oldest one is out that is not back; 0 if all are."""
        return max(0.0, trio.current_time() - self._sent_at)

    @property
    def late(self) -> bool:
        """Whether one is out for longer than it may be."""
        return self.out_for > self._limits.canary_late

    async def fly(self) -> None:
        """Send one every `limits.canary_every` seconds, for ever."""
        self._hub.subscribe(self.job, self)
        while True:
            self._sent += 1
            self._sent_at = min(self._sent_at, trio.current_time())
            update = Update(status="queued", data=Raw(b"%d" % self._sent))
            try:
                with trio.move_on_after(self._limits.canary_late):
                    await self._broker.publish(self.job, update)
            except BrokerUnavailable as error:
                log.debug("the canary cannot be sent: %s", error)
            await trio.sleep(self._limits.canary_every)

    def mark(self, subscription: Subscription) -> None:
        """Something is new of its job: it is back, if it is the last that was sent."""
        latest = subscription.topic.latest
        if latest is None or not isinstance(latest.state.data, Raw):
            return
        self._back = int(bytes(latest.state.data))
        if self._back == self._sent and self._sent_at < inf:
            self.round_trip = trio.current_time() - self._sent_at
            self._sent_at = inf
