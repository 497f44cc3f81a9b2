"""A node with one client, and a broker whose feed loses events."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio

from gateway import Broker, Node
from gateway.brokers.memory import MemoryBroker
from gateway.model.state import Event
from tests.fakes import FakeSource, Sink

__all__ = ["LosingFeed", "connected"]


@asynccontextmanager
async def connected(broker: Broker) -> AsyncIterator[tuple[FakeSource, Sink]]:
    """Yields a node that follows `broker`, and one client of it."""
    node = Node(broker)
    async with trio.open_nursery() as nursery:
        await nursery.start(node.run)
        source, sink = FakeSource(), Sink()
        nursery.start_soon(node.serve, source, sink)
        yield source, sink
        nursery.cancel_scope.cancel()


class LosingFeed(MemoryBroker):
    """A broker whose feed delivers only the events that the test puts into `feed_of`."""

    @asynccontextmanager
    async def feed(self, **options: Any) -> AsyncIterator[trio.abc.ReceiveChannel[Sequence[Event]]]:
        self.feed_of, received = trio.open_memory_channel[Sequence[Event]](1)
        yield received
