"""An ordered set of work items that tasks wait for."""

from __future__ import annotations

from contextlib import suppress
from itertools import islice
from typing import Generic, TypeVar

import trio

__all__ = ["WorkQueue"]

T = TypeVar("T")


class WorkQueue(Generic[T]):
    """Contains each item once. It needs no bound, because users add only items that they keep."""

    def __init__(self) -> None:
        self._items: dict[T, None] = {}
        self._wake_channel, self._woken = trio.open_memory_channel[None](1)

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, item: T) -> bool:
        return item in self._items

    def add(self, item: T) -> None:
        """Adds an item at the end, unless it is there already."""
        self._items[item] = None
        self._wake()

    def discard(self, item: T) -> None:
        """Removes an item, if it is there."""
        self._items.pop(item, None)

    async def get_batch(self, maximum: int) -> list[T]:
        """Removes and returns the first items, up to `maximum`. Waits until there is one.

        Several tasks may call it. Cancellation: no item was removed.
        """
        while not self._items:
            await self._woken.receive()
        batch = list(islice(self._items, maximum))
        for item in batch:
            del self._items[item]
        if self._items:
            self._wake()  # another task may wait
        return batch

    def _wake(self) -> None:
        with suppress(trio.WouldBlock):  # a wake-up is pending already
            self._wake_channel.send_nowait(None)
