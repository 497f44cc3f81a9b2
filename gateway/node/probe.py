"""The probe: an event that a node publishes, and waits for in the same way as a client would.

The event goes to the broker and returns through the feed and the hub. While probes return in time,
the node's data are up to date. If a probe is overdue, some part of this path is broken or slow,
even if no part reports an error.

Workers cannot use the name of its job (`!probe:…`). The job is in no list and has no lease.
"""

from __future__ import annotations

import logging
from math import inf

import trio
from msgspec import Raw

from ..brokers.base import Broker
from ..delivery.hub import Hub
from ..delivery.topic import Subscription
from ..model.errors import BrokerUnavailable
from ..model.limits import Limits
from ..model.state import Update

__all__ = ["Probe"]

log = logging.getLogger("gateway.node")

RETRY_PAUSE = 0.5
"""Seconds until the next probe after the broker refused one, so that readiness recovers soon after
the broker does."""


class Probe:
    """The probe of one node. It subscribes to its own job, so the hub treats it as an outbox."""

    def __init__(self, hub: Hub, broker: Broker, *, name: str, limits: Limits) -> None:
        self.job = f"!probe:{name}"
        self._hub = hub
        self._broker = broker
        self._limits = limits
        self._last_sent = 0
        self._last_received = 0
        self._send_now = trio.Event()
        self._sent_at = inf
        """The time when the oldest pending probe was sent, on Trio's clock."""
        self.round_trip: float | None = None
        """Seconds that the last probe took; None before the first one has returned."""

    def __repr__(self) -> str:
        return f"<Probe {self.job} {'overdue' if self.overdue else 'in time'}>"

    @property
    def pending_for(self) -> float:
        """The age of the oldest pending probe in seconds; 0 if none is pending."""
        return max(0.0, trio.current_time() - self._sent_at)

    @property
    def overdue(self) -> bool:
        """Whether a probe has been pending for too long."""
        return self.pending_for > self._limits.probe_timeout

    def reset_after_outage(self) -> None:
        """Measures pending probes from now on, and sends one now, because the feed was
        interrupted."""
        if self._sent_at < inf:
            self._sent_at = trio.current_time()
        self._send_now.set()

    async def run(self) -> None:
        """Sends a probe every `limits.probe_interval` seconds, and after each call of
        `reset_after_outage`. Never returns.

        After a probe that could not be sent, the next follows soon.
        """
        self._hub.subscribe(self.job, self)
        while True:
            self._send_now = trio.Event()
            pause = self._limits.probe_interval
            self._last_sent += 1
            self._sent_at = min(self._sent_at, trio.current_time())
            update = Update(status="queued", data=Raw(b"%d" % self._last_sent))
            try:
                with trio.move_on_after(self._limits.probe_timeout):
                    await self._broker.publish(self.job, update)
            except BrokerUnavailable as error:
                log.debug("cannot publish the probe: %s", error)
                pause = min(pause, RETRY_PAUSE)
            with trio.move_on_after(pause):
                await self._send_now.wait()

    def notify(self, subscription: Subscription) -> None:
        """Called by the hub when the probe's job has an event. If it is the last probe that was
        sent, no probe is pending any more."""
        latest = subscription.topic.latest
        if latest is None or not isinstance(latest.state.data, Raw):
            return
        self._last_received = int(bytes(latest.state.data))
        if self._last_received == self._last_sent and self._sent_at < inf:
            self.round_trip = trio.current_time() - self._sent_at
            self._sent_at = inf
