"""The feed of the embedded broker: one channel to each reader."""

from __future__ import annotations

from collections.abc import Sequence

import trio
from attrs import define, field
from trio.abc import ReceiveChannel

from ..model.state import Event

__all__ = ["FEED_CAPACITY", "MemoryFeed"]

FEED_CAPACITY = 10_000
"""Unread events above which `publish` waits: some megabytes."""


@define(eq=False)
class MemoryFeed(ReceiveChannel[Sequence[Event]]):
    """The feed of one reader: `receive` returns all events since the last call."""

    _events: list[Event] = field(factory=list)
    _arrived: trio.Event = field(factory=trio.Event)
    _was_read: trio.Event = field(factory=trio.Event)
    _closed: bool = False

    def __len__(self) -> int:
        return len(self._events)

    def put(self, event: Event) -> None:
        self._events.append(event)
        self._arrived.set()

    async def wait_for_reader(self) -> None:
        """Waits until the reader has less than `FEED_CAPACITY` unread events."""
        while len(self._events) >= FEED_CAPACITY and not self._closed:
            await self._was_read.wait()

    async def receive(self) -> Sequence[Event]:
        if self._closed:
            raise trio.ClosedResourceError
        await self._arrived.wait()
        if self._closed:
            raise trio.ClosedResourceError
        batch, self._events = self._events, []
        self._arrived = trio.Event()
        self._was_read.set()
        self._was_read = trio.Event()
        return batch

    async def aclose(self) -> None:
        self._closed = True
        self._arrived.set()
        self._was_read.set()
        await trio.lowlevel.checkpoint()
