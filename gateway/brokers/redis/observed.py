"""The newest events that clients of a node may have seen. They are restored after a server has lost
them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator

from msgspec import UNSET

from ...model.state import Event

__all__ = ["Observed"]

MAX_JOBS = 20_000
MAX_BYTES = 16 * 1024 * 1024
"""Limits for jobs that no client watches. The most recently updated ones are kept, because a server
that is rolled back loses the newest updates."""
EVENT_BYTES = 600
"""The memory of an event without its long texts, measured."""


class Observed:
    """The newest event of each job that went through a broker, up to the limits."""

    def __init__(self) -> None:
        self._events: OrderedDict[str, Event] = OrderedDict()  # the longest untouched first
        self._bytes = 0
        self.sources: list[Callable[[], Iterable[Event]]] = []
        """Functions that return further events that clients may have seen: those of topics."""

    def __len__(self) -> int:
        return len(self._events)

    def record(self, events: Iterable[Event]) -> None:
        """Records events that were, or are about to be, delivered."""
        stored = self._events
        for event in events:
            job = event.job
            if job[0] == "!":
                continue
            previous = stored.pop(job, None)
            if previous is not None:
                self._bytes -= _size(previous)
                if previous.position > event.position:
                    event = previous
            stored[job] = event
            self._bytes += _size(event)
        while len(stored) > MAX_JOBS or self._bytes > MAX_BYTES:
            self._bytes -= _size(stored.popitem(last=False)[1])

    def all(self) -> Iterator[Event]:
        """Yields the newest event of each job."""
        others: dict[str, Event] = {}
        for source in self.sources:
            for event in source():
                previous = others.get(event.job) or self._events.get(event.job)
                if event.job[0] != "!" and (previous is None or previous.position < event.position):
                    others[event.job] = event
        yield from others.values()
        yield from (event for event in self._events.values() if event.job not in others)


def _size(event: Event) -> int:
    state = event.state
    size = EVENT_BYTES
    if state.data is not UNSET:
        size += len(state.data)
    if state.message:
        size += len(state.message)
    if state.error:
        size += len(state.error)
    return size
