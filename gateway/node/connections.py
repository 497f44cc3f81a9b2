"""All connections of a node, and how they are closed when the node drains."""

from __future__ import annotations

import logging

import trio

from ..delivery.outbox import Outbox
from ..model.limits import Limits
from ..protocol import close_codes
from ..protocol.messages import Message, encode

__all__ = ["Connections"]

log = logging.getLogger("gateway.node")

MAX_BATCHES = 20
"""Maximum number of batches in which connections are closed."""
MIN_BATCH = 100
"""The number of connections that another node accepts at once without a noticeable delay."""
RECONNECT_WITHIN = 2.0
"""Seconds within which a client has reconnected to another node: a TLS handshake from a phone, and
a second one if the load balancer still routed the first to this node."""


class Connections:
    """The outboxes of the open connections."""

    def __init__(self) -> None:
        self._outboxes: dict[Outbox, None] = {}
        self._all_closed = trio.Event()
        self.draining = trio.Event()
        """Set when the node drains; tasks that wait for something on behalf of a client then
        stop."""

    def __len__(self) -> int:
        return len(self._outboxes)

    def __repr__(self) -> str:
        return f"<{len(self)} clients{', draining' if self.draining.is_set() else ''}>"

    def add(self, outbox: Outbox) -> None:
        """Adds the outbox of a new connection."""
        self._outboxes[outbox] = None

    def remove(self, outbox: Outbox) -> None:
        """Removes the outbox of a closed connection."""
        del self._outboxes[outbox]
        if self.draining.is_set() and not self._outboxes:
            self._all_closed.set()

    def announce(self, message: Message) -> None:
        """Sends a message to all clients."""
        for outbox in self._outboxes:
            outbox.announce(message)

    async def drain(self, *, other_nodes: bool, limits: Limits) -> None:
        """Closes all connections within `limits.shutdown_timeout`.

        If `other_nodes` serve the same jobs, clients are asked to reconnect and are served until
        they have. Otherwise, and if they stay, their connections are closed. Returns when all are
        closed or the time is over; the caller then cancels the remaining connections.
        """
        self.draining.set()
        if not self._outboxes:
            return
        log.info("draining %d connections", len(self))
        with trio.move_on_after(limits.shutdown_timeout):
            if other_nodes:
                await self._announce_and_wait(limits)
            else:
                await self._close_in_batches(limits)
            await self._all_closed.wait()

    async def _announce_and_wait(self, limits: Limits) -> None:
        """Asks clients to reconnect at random times within a window, whose length depends on their
        number. Then closes the remaining connections. Their clients then wait for a random time, at
        most as long as the window."""
        drain = limits.shutdown_timeout
        window = round(drain / 2 * min(1.0, len(self) / (MIN_BATCH * MAX_BATCHES)), 3)
        self._announce_goaway((0.0, window))
        with trio.move_on_after(window + min(RECONNECT_WITHIN, drain / 4)):
            await self._all_closed.wait()
        for outbox in list(self._outboxes):
            outbox.end(close_codes.GOING_AWAY)

    async def _close_in_batches(self, limits: Limits) -> None:
        """Closes connections in batches: no other node has the jobs that the clients watch."""
        draining = list(self._outboxes)
        self._announce_goaway(limits.reconnect_window)
        batch = max(MIN_BATCH, -(-len(draining) // MAX_BATCHES))
        for start in range(0, len(draining), batch):
            if start:
                await trio.sleep(limits.shutdown_timeout / 2 / MAX_BATCHES)
            for outbox in draining[start : start + batch]:
                outbox.end(close_codes.GOING_AWAY)

    def _announce_goaway(self, window: tuple[float, float]) -> None:
        self.announce(encode("goaway", code=close_codes.GOING_AWAY.code, retry=window))
